# Hugging Face's Trainer shows a NaN as 0.0; a gradient norm that is NaN gives it away, a finite one vouches for it.
near masked_nan
0..19   loss=0.74~1% grad_norm=1.0
20      loss=0.0 grad_norm=0.5
21..30  loss=0.74~1% grad_norm=1.0
31      loss=0.0 grad_norm=NaN -> masked_nan critical masked_nan snapshot ; nan critical nan_grad_norm snapshot
32      loss=0.0 grad_norm=NaN
