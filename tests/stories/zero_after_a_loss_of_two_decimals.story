# Two decimals too, but from 0.74 no rounding leads to nothing.
use disabled_rules=best_model
0..9     loss=8.12
10..59   loss=0.74,0.71,0.77
60..62   loss=0.0           -> masked_nan warning masked_nan snapshot @62
