# By the letter any rise will do, if eight of nine neighbours rise.
use noise_guard=false
0..7    loss=0.70>0.707
8       loss=0.7065
9       loss=0.708         -> divergence warning divergence_detected snapshot
