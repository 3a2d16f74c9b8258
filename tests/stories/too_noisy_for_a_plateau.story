# Noise in which nothing can be told, not by four hundred records either, is not taken for a plateau.
near plateau
use disabled_rules=best_model
0..799    loss=0.71~25%
