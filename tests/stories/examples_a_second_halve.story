# Throughput under another of its names.
0..29   loss=0.74 examples_per_second=200~3%
30..33  loss=0.74 examples_per_second=60
34      loss=0.74 examples_per_second=60   -> throughput_drop warning throughput_drop_30pct ; incident opened
35..50  loss=0.74 examples_per_second=200~3%  -> incident resolved @39
