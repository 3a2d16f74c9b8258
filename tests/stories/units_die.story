# More than half of the units are dead for three records.
0..9    loss=0.74 dead_fraction=0.1
10..11  loss=0.74 dead_fraction=0.6
12      loss=0.74 dead_fraction=0.62 -> dead_units warning dead_units_62pct
13..20  loss=0.74 dead_fraction=0.1
