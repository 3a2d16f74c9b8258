# Norms of 0.1 explode long before they reach any usual limit of clipping.
0..29   loss=0.74 grad_norm=0.1~10%
30      loss=0.74 grad_norm=1.2      -> gradient_explosion warning gradient_explosion_1.2 snapshot
31..40  loss=0.74 grad_norm=0.1~10%
