# Rows of evaluation carry a loss of 0.0 in some logs: no NaN, and no best model for ever.
0..19   loss=0.74 grad_norm=1.0
19      loss=0.0 eval_loss=0.80
20..29  loss=0.74 grad_norm=1.0
29      loss=0.0 eval_loss=0.79
30..39  loss=0.74 grad_norm=1.0
