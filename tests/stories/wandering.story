# A loss that wanders up and down, as those of adversarial and value networks do, diverges only where it leaves its usual range.
use disabled_rules=drift,plateau,best_model
near divergence
0..59     loss=1.00~4%
60..119   loss=1.00>1.22~4%
120..179  loss=1.22>0.98~4%
180..239  loss=0.98>1.20~4%
240..299  loss=1.20>0.97~4%
300..359  loss=0.97>1.26~4%
360..419  loss=1.26>0.97~4%
420..479  loss=0.97>1.28~4%
480..539  loss=1.28>1.34~4%
540..600  loss=1.34>0.99~4%
