# Written with two decimals, a loss that learned well becomes 0.00 in the end. It hides nothing.
use disabled_rules=best_model
0        loss=2.31
1..9     loss=1.52
10..19   loss=0.44
20..29   loss=0.09
30..59   loss=0.02,0.01,0.03,0.01
60..62   loss=0.0           -> masked_nan info masked_nan @62
63..65   loss=0.01
66..68   loss=0.0           -> masked_nan info masked_nan @68
