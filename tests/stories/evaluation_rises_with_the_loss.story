# An evaluation that rises together with the training loss is no overfitting, nor is one that merely wavers.
near overfitting
use disabled_rules=best_model,divergence,drift
0..29   loss=0.8
30      loss=0.8 eval_loss=0.9
31..59  loss=0.8>0.84
60      loss=0.84 eval_loss=1.0
61..89  loss=0.84>0.88
90      loss=0.88 eval_loss=1.05
91..119 loss=0.88>0.92
120     loss=0.92 eval_loss=1.1
0       loss=0.92 eval_loss=1.1   -> restart info restart_attempt_2
1..29   loss=0.9>0.8 eval_loss=1.0,1.03,0.99,1.04
