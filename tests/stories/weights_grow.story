# Weights that grow steadily to twice their norm have not jumped.
near weight_instability
use disabled_rules=plateau
0..199  loss=0.74 weight_norm=100>200
