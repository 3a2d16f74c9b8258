# Batches of eight: one right answer of eight is chance now and then; a collapse is told when it stays.
near accuracy_drop
0..99     loss=0.7 accuracy=0.625,0.875,0.875,0.875,0.625,0.75,0.625,0.75,0.625,0.875,0.75,0.75,0.875,0.75,0.875,1,0.75,0.875,0.875,0.625
100       loss=0.7 accuracy=0.125
101..120  loss=0.7 accuracy=0.625,0.875,0.875,0.875,0.625,0.75,0.625,0.75,0.625,0.875,0.75,0.75,0.875,0.75,0.875,1,0.75,0.875,0.875,0.625   -> nothing
121       loss=0.7 accuracy=0.0
122       loss=0.7 accuracy=0.0                   -> accuracy_drop warning accuracy_drop_82.5pct snapshot
