# Values that no rule can use break none.
near rule_failed
0..9    loss=0.74 accuracy=75 eval_loss=1
10      loss=-inf accuracy=NaN eval_loss=-inf grad_norm=NaN -> nan critical nan snapshot
11      loss=null accuracy=null
norow   loss=0.74
12..20  loss=1e-320 accuracy=1e300
