# The guide's fourth example: a window of which every neighbour rises.
near divergence
0..39   loss=0.70~1%
40..49  loss=0.70>0.89      -> divergence warning divergence_detected snapshot @46
