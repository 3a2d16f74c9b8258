# Milestones of a step decay: information at most.
0..49    loss=0.74 learning_rate=0.1
50..99   loss=0.74 learning_rate=0.01   -> learning_rate_change info learning_rate_change_-90.0pct @50
100..149 loss=0.74 learning_rate=0.001  -> learning_rate_change info learning_rate_change_-90.0pct @100
