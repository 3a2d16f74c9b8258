# A slow evaluation now and then, and a run that is a little slower for good, are nothing to wake for.
near throughput_drop
use disabled_rules=plateau
0..29   loss=0.74 tokens_per_sec=20000~3%
30..33  loss=0.74 tokens_per_sec=2000
34..60  loss=0.74 tokens_per_sec=20000~3%
61..99  loss=0.74 tokens_per_sec=12000~3%
