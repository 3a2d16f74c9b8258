# Rows that count nothing, and a loss that is back where it began: another training was appended, or all is lost. Told as that.
use disabled_rules=best_model
near loss_spike
0..79     source=log loss=4>0.8~1%
80..119   source=log loss=0.8~2%
120       source=log loss=4.1         -> restart warning restart_attempt_2 snapshot
121..199  source=log loss=3.9>0.9~1%
200..219  source=log loss=0.9~2%
220       source=log loss=3.85        -> restart warning restart_attempt_3 snapshot
221..260  source=log loss=3.7>2~1%
