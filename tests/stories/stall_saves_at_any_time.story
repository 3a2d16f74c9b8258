# Saves of four minutes that come as they like are granted at any step; three times as long is a stall.
near stall
0..10     loss=0.74
tick +240s
11..40    loss=0.74
tick +240s
41..60    loss=0.74
tick +240s
61..99    loss=0.74
tick +700s
100..110  loss=0.74
tick +2110s                -> stall warning stall
