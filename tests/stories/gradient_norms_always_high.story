# A run whose norm is always 30 explodes nowhere.
near gradient_explosion
0..49    loss=0.74 grad_norm=30~20%
50       loss=0.74 grad_norm=90
51..90   loss=0.74 grad_norm=30~20%
