# Norms that scatter widely by nature neither explode nor scatter more than usual.
near gradient_variance gradient_explosion
use disabled_rules=plateau
0..299   loss=0.74 grad_norm=1,3,2,7,1,2,1,4,12,2
