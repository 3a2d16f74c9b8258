# Five values out of fifty that stand out: each a small thing, together an unstable run.
use disabled_rules=loss_spike,divergence,drift,plateau
0..89    loss=0.74~1%
90       loss=0.80
91..95   loss=0.74~1%
96       loss=0.84
97..101  loss=0.74~1%
102      loss=0.95
103..107 loss=0.74~1%
108      loss=1.15
109..113 loss=0.74~1%
114      loss=1.6             -> instability info instability_0.50
115..140 loss=0.74~1%
