# A rate five times the highest so far is a warning; back below it is information.
0..29   loss=0.74 learning_rate=1e-4
30..39  loss=0.74 learning_rate=5e-4  -> learning_rate_change warning learning_rate_change_400.0pct @30
40..49  loss=0.74 learning_rate=1e-4  -> learning_rate_change info learning_rate_change_-80.0pct @40
50..59  loss=0.74 learning_rate=3e-4  -> learning_rate_change info learning_rate_change_200.0pct @50
