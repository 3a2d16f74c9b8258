# A loss that rises and falls again has a level trend over 400 records, and moves all the same.
use disabled_rules=best_model,drift,divergence
near plateau
0..199    loss=0.70>0.78~0.5%
200..419  loss=0.78>0.70~0.5%
