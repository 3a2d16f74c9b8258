# A loss whose steps are small and whose course is not: it rises by an eighth, step by step, as far as it has strayed before.
use disabled_rules=best_model,drift
near divergence
0..164    loss=0.7,0.702,0.699,0.701,0.7,0.698,0.701,0.7,0.702,0.699,0.7,0.701,0.745,0.747,0.744
165..173  loss=0.7>0.785
174..184  loss=0.785>0.7
