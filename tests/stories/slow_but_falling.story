# A fall of 2 % over two hundred records is no plateau.
near plateau
use disabled_rules=best_model
0..799    loss=0.74>0.68
