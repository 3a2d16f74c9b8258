# A policy that had learned and lost it again: critical once its level has stood low for fifteen records.
use disabled_rules=reward_distribution_drift
0..99     reward=1>10
100..129  reward=10~3%
130..200  reward=2~3%        -> reward_collapse critical reward_collapse_detected @155
