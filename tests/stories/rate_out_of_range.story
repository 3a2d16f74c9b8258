# A rate of 3 is told at once; one of 1e-10 after twenty records, if the end of the run is far.
0..9    loss=0.74 learning_rate=3.0 total=1000   -> learning_rate_range warning learning_rate_range_3 @0
0       loss=0.74 learning_rate=1e-10 total=1000 -> restart info restart_attempt_2
1..40   loss=0.74 learning_rate=1e-10 total=1000 -> learning_rate_range warning learning_rate_range_1e-10 @19
