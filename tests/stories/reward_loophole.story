# Fifty rewards that are distributed otherwise than the fifty before.
use disabled_rules=reward_collapse
0..99     reward=1,2,3,4,5
100..149  reward=5,6,7,8,9   -> reward_distribution_drift info reward_distribution_drift_0.80 @149
150..249  reward=5,6,7,8,9
