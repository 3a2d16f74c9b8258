# Noise that happens to rise for a while, and a loss that rises by a hair in every step, diverge nowhere.
use disabled_rules=best_model
near divergence
0..99   loss=0.74~3%
100..109 loss=0.735>0.75
110..150 loss=0.74~3%
