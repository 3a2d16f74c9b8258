# The wall clock is set: how long nothing came is told by one that never steps.
near stall
0..9    loss=0.74
tick +3600s record_age=5       -> nothing
10      loss=0.74
tick +20s record_age=20        -> nothing
tick +10s record_age=20000      -> stall warning stall ; incident opened
