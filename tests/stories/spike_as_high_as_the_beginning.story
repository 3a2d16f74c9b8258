# In rows that count nothing a loss that stands where training began looks like another training. If it is back at once, it was a spike.
use disabled_rules=best_model
0..79     source=log loss=4>0.8~1%
80..119   source=log loss=0.8~2%
120       source=log loss=4.1         -> restart warning restart_attempt_2 snapshot
121       source=log loss=3.1
122       source=log loss=1.2         -> loss_spike warning loss_spike_416.2pct snapshot ; incident opened
123..140  source=log loss=0.8~2%      -> incident resolved
