# Only rank 0 writes: nobody else is missed, whatever it does.
near rank_lag
0..40   loss=0.74 rank=0
tick +100s
41..60  loss=0.74 rank=0
