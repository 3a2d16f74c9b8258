# The guide's second example, by the letter: 75 % falls to 62 %.
use noise_guard=false
near accuracy_drop
0..2    accuracy=75
3       accuracy=66
4..8    accuracy=75
9       accuracy=62        -> accuracy_drop warning accuracy_drop_13.0pct snapshot
