# No step for longer than six of the run's longest intervals and 300 s; slow evaluations are part of the rhythm.
near stall
0..9    loss=0.74
tick +290s
10      loss=0.74
tick +1500s
tick +400s                 -> stall warning stall ; incident opened
tick +400s                 -> nothing
11      loss=0.74          -> incident resolved
state idle
tick +90000s
