# A fall that lasts is one finding; the new level is believed after fifteen values, and the next fall is told.
0..29   accuracy=75
30      accuracy=50        -> accuracy_drop warning accuracy_drop_25.0pct snapshot
31..43  accuracy=50
44      accuracy=50        -> snapshot accuracy_drop_not_recovered if newer
45..60  accuracy=50
61      accuracy=30        -> accuracy_drop warning accuracy_drop_20.0pct gated
