# A loss that creeps upwards within its noise: told with the step at which it began.
use disabled_rules=divergence,plateau
0..99    loss=0.74~2%
100..230 loss=0.74>0.98~2%      -> drift info drift
