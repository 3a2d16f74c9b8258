# From a source that never gave a gradient norm 0.0 means "not given"; three new steps of it are a warning.
0..9    loss=0.74
10..11  loss=0.0
11      loss=0.0
12      loss=0.0           -> masked_nan warning masked_nan snapshot
13..20  loss=0.74
