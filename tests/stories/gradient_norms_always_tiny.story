# Norms whose level is tiny by its units, and two small ones alone, vanish nowhere.
near gradient_vanishing update_frozen
0..39   loss=0.74 grad_norm=5e-7~10%
0       loss=0.74 grad_norm=0.5       -> restart info restart_attempt_2
1..30   loss=0.74 grad_norm=0.5~10%
31..32  loss=0.74 grad_norm=2e-8
33..40  loss=0.74 grad_norm=0.5~10%
41..44  loss=0.74 grad_norm=0.0
45..60  loss=0.74 grad_norm=0.5~10%
