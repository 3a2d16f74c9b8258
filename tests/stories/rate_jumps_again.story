# The second of two jumps is not explained by the first.
0..29   loss=0.74 learning_rate=1e-5
30..39  loss=0.74 learning_rate=1e-4  -> learning_rate_change warning learning_rate_change_900.0pct @30
40..49  loss=0.74 learning_rate=1e-3  -> learning_rate_change warning learning_rate_change_900.0pct @40
