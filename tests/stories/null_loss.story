# A null where ten records gave a loss is a NaN that an encoder ate; where it is usual it is not.
0..3    loss=0.74
4       loss=null
5..13   loss=0.74
14      loss=null
15..24  loss=0.74
25      loss=null          -> nan critical nan snapshot
26      loss=null
27      loss=0.74
