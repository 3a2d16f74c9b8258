# The guide's second example after thirty records of noise, with the defaults.
0..24   accuracy=75~1%
25..29  accuracy=75
30      accuracy=62        -> accuracy_drop warning accuracy_drop_13.0pct snapshot
31..35  accuracy=75~1%     -> incident resolved @35
