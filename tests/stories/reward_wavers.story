# A third of what was gained is lost again: policies do that. So does a run that never gained anything.
near reward_collapse
use disabled_rules=reward_distribution_drift
0..99     reward=1>10
100..129  reward=10~3%
130..200  reward=7.5~3%
0         reward=5           -> restart info restart_attempt_2
1..100    reward=5~10%
101..160  reward=4.8~10%
