# Relative to a loss that has fallen its noise is larger than it was at first: the latest steps say so before the window is full of them.
use disabled_rules=drift,plateau,best_model
near loss_spike
0..39     loss=2.0>1.0~2%
40..49    loss=0.90>0.25~4%
50..74    loss=0.22,0.36,0.20,0.12,0.31,0.25,0.08,0.37,0.21,0.28,0.14,0.33,0.17,0.27,0.39,0.11,0.24,0.30,0.09,0.26,0.35,0.16,0.22,0.13,0.23
75        loss=0.56
76..90    loss=0.22,0.36,0.20,0.12,0.31,0.25,0.08,0.37,0.21,0.28,0.14,0.33,0.17,0.27,0.20
