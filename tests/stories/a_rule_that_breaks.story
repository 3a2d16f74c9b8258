# A rule that raises is told once and takes no other with it.
break loss_spike
0       loss=0.74          -> rule_failed warning rule_failed_loss_spike
1..29   loss=0.74 accuracy=75
30      accuracy=50        -> accuracy_drop warning accuracy_drop_25.0pct snapshot
