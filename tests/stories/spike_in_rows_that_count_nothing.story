# Rows that count nothing, and a loss twice as high as it ever was: no training begins there.
use disabled_rules=best_model
near restart
0..79     source=log loss=4>0.8~1%
80..119   source=log loss=0.8~2%
120       source=log loss=8    -> loss_spike warning loss_spike_896.0pct snapshot ; incident opened
121..140  source=log loss=0.8~2%      -> incident resolved @125
