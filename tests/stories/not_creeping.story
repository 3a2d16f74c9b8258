# Noise creeps nowhere, and neither does one spike, however high.
near drift
use disabled_rules=loss_spike,plateau
0..399   loss=0.74~3%
400      loss=9
401..450 loss=0.74~3%
