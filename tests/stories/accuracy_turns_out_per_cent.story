# An accuracy reads as a fraction until a value above 1.5 appears; what was learned of it before is forgotten.
use disabled_rules=best_model
0..9    accuracy=0.9
10      accuracy=2.5
11..40  accuracy=60~1%
41      accuracy=30        -> accuracy_drop warning accuracy_drop_30.1pct snapshot
