# Records that do not give the accuracy say nothing about it: one bad value does not last fifteen records.
0..29   loss=0.7 accuracy=75
30      loss=0.7 accuracy=50 -> accuracy_drop warning accuracy_drop_25.0pct snapshot ; incident opened
31..79  loss=0.7           -> nothing
80..90  loss=0.7 accuracy=75 -> incident resolved @84
