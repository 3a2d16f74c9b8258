# A third of the usual speed for five records.
0..29   loss=0.74 tokens_per_sec=20000~3%
30..33  loss=0.74 tokens_per_sec=6000
34      loss=0.74 tokens_per_sec=6000   -> throughput_drop warning throughput_drop_30pct ; incident opened
35..36  loss=0.74 tokens_per_sec=6000
37..50  loss=0.74 tokens_per_sec=20000~3%  -> incident resolved @41
