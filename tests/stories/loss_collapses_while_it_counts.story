# As among the folds without a mark, but the learning rate goes on: no other training begins in the middle of its schedule.
use disabled_rules=best_model
0..79     source=log learning_rate=2e-4 loss=4>0.8~1%
80..119   source=log learning_rate=2e-4 loss=0.8~2%
120       source=log learning_rate=2e-4 loss=4.1   -> loss_spike warning loss_spike_409.7pct snapshot ; incident opened
121       source=log learning_rate=2e-4 loss=4.05  -> snapshot loss_spike_not_recovered if newer ; incident escalated
