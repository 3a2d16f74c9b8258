# Three norms that are next to nothing; the smallness does not become the run's own level.
0..29   loss=0.74 grad_norm=0.5~10%
30..31  loss=0.74 grad_norm=2e-8
32      loss=0.74 grad_norm=3e-8     -> gradient_vanishing warning gradient_vanishing_3e-08 ; incident opened
33..80  loss=0.74 grad_norm=2e-8  -> nothing
81      loss=0.74 grad_norm=0.5      -> incident resolved
