# Half of the units, or more of them twice, is what rectifiers do.
near dead_units
0..9    loss=0.74 dead_fraction=0.5
10..11  loss=0.74 dead_fraction=0.9
12..20  loss=0.74 dead_fraction=0.5
