# Four of fifty do not make a run unstable.
near instability
use disabled_rules=loss_spike,divergence,drift,plateau
0..89    loss=0.74~1%
90       loss=0.80
91..95   loss=0.74~1%
96       loss=0.84
97..101  loss=0.74~1%
102      loss=0.95
103..107 loss=0.74~1%
108      loss=1.15
109..200 loss=0.74~1%
