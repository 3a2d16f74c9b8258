# Where the learning rate is zero, weights that stand still are no fault.
near update_frozen
0..29   loss=0.74 update_ratio=1e-3 learning_rate=1e-4
30..60  loss=0.74 update_ratio=0.0 learning_rate=0.0   -> learning_rate_change info learning_rate_change_-100.0pct @30
