# A trainer that counts its NaN gradients says so with a flag.
0..9    loss=0.74 has_nan=0 has_inf=0
10      loss=0.74 has_nan=1    -> nan critical nan_has_nan snapshot
11      loss=0.74 has_nan=0
12      loss=0.74 has_inf=1    -> nan critical nan_has_inf snapshot
