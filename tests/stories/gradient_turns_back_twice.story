# Twice is chance, and so is a mild opposition that lasts.
near gradient_direction
0..9    loss=0.74 grad_cosine=0.1
10..11  loss=0.74 grad_cosine=-0.8
12..30  loss=0.74 grad_cosine=-0.4
