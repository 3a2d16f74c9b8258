# An evaluation of twenty minutes every hundred steps is no stall from the second on; five minutes without a step where none is due is one.
near stall
use disabled_rules=plateau
0..100    loss=0.74
tick +1200s                -> stall warning stall ; incident opened
100       eval_loss=0.8      -> incident resolved
101..200  loss=0.74
tick +1200s
200       eval_loss=0.8
201..300  loss=0.74
tick +1200s
300       eval_loss=0.8
301..350  loss=0.74
tick +290s
tick +20s                  -> stall warning stall ; incident opened
351..400  loss=0.74        -> incident resolved
tick +3000s
tick +700s                 -> stall warning stall
