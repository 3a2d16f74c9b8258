# A layer without a gradient now and then (an expert without tokens, the first step of an adapter) is no trouble; nor a rate of zero.
near layer_frozen
0..29   loss=0.74 grad_norm=1.0~10% dead_layers=1,1,1,1,0
30..49  loss=0.74 grad_norm=1.0~10% still_layers=4 learning_rate=0
