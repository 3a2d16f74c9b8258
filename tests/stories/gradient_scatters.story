# A norm whose spread grows to many times what it was is information, without a snapshot.
use disabled_rules=gradient_explosion,plateau
0..139   loss=0.74 grad_norm=1.0~5%
140..179 loss=0.74 grad_norm=0.3,0.3,0.3,0.3,0.3,0.3,0.3,0.3,0.3,9  -> gradient_variance info gradient_variance @159
