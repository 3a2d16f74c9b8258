# A loss that has diverged and stands at the edge of what counts as that is told once, not at every crossing.
use disabled_rules=drift,plateau,best_model
0..59     loss=1.00~2%
60..99    loss=1.00>1.34~2%
100..139  loss=1.36~2%      -> divergence warning divergence_detected snapshot; snapshot divergence_not_recovered if newer
140..180  loss=1.21~2%
181..220  loss=1.36~2%
221..260  loss=1.21~2%
261..300  loss=1.36~2%
301..360  loss=1.00~2%
