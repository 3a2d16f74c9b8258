# A fall of 2 % over two hundred records is no plateau, nor is noise in which nothing can be told.
near plateau
use disabled_rules=best_model
0..399    loss=0.74>0.71
400..799  loss=0.71~6%
