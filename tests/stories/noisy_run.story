# In a run that is noisy by itself a move of 40 % is nothing; with noise_guard=false it would be a spike.
use disabled_rules=best_model
near loss_spike divergence
0..79   loss=0.74~10%
80      loss=1.04
81..99  loss=0.74~10%
