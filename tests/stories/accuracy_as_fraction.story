# 0.75 is 75 %, and a fall to 0.62 is 13 points.
0..29   accuracy=0.75
30      accuracy=0.62      -> accuracy_drop warning accuracy_drop_13.0pct snapshot
