# No step for longer than three of the run's longest pauses and 300 s; what happened before at that length is no alarm.
near stall
0..9    loss=0.74
tick +290s
10      loss=0.74
tick +800s
tick +100s                 -> stall warning stall ; incident opened
tick +400s                 -> nothing
11      loss=0.74          -> incident resolved
state idle
tick +90000s
