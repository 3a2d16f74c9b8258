# The loss settles higher after the batch size was halved.
use disabled_rules=divergence,drift,plateau
0..49    loss=0.74~1% batch_size=64
50..58   loss=0.83~1% batch_size=32
59       loss=0.83 batch_size=32     -> batch_size_impact info batch_size_impact_12.4pct
60..80   loss=0.83~1% batch_size=32
