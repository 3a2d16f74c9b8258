# A rate of exactly 1, one that ends near zero as planned, and one that is zero in warm-up are all in order.
near learning_rate_range
0..9    loss=0.74 learning_rate=1.0 total=1000
0       loss=0.74 learning_rate=0.0 total=100  -> restart info restart_attempt_2
1..30   loss=0.74 learning_rate=0.0 total=100
90..100 loss=0.74 learning_rate=1e-10 total=100
