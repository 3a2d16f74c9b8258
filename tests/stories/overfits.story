# The evaluation climbs from its best while the training loss falls on; told at the third evaluation, and once.
use disabled_rules=best_model
0..29   loss=1.0>0.9
30      loss=0.9 eval_loss=1.0
31..59  loss=0.9>0.8
60      loss=0.8 eval_loss=0.95
61..89  loss=0.8>0.7
90      loss=0.7 eval_loss=1.06
91..119 loss=0.7>0.6
120     loss=0.6 eval_loss=1.1
121..149 loss=0.6>0.5
150     loss=0.5 eval_loss=1.2    -> overfitting warning overfitting_26.3pct
151..179 loss=0.5>0.45
180     loss=0.45 eval_loss=1.3   -> nothing
