# Where the noise of a batch hides what 200 records say of the trend, the last 400 say it: a plateau is told, later.
use disabled_rules=best_model,drift
near loss_spike
0..599  loss=0.74~7%             -> plateau info plateau @399
