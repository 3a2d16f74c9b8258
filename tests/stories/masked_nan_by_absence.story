# A gradient norm that was just given and is missing beside a loss of 0.0 is a NaN dropped by the logger.
0..19   loss=0.74~1% grad_norm=1.0
20      loss=0.0           -> masked_nan critical masked_nan snapshot
21..25  loss=0.0
