# 1e308 and inf are told and spoil nothing after them.
0..29   loss=0.74
30      loss=1e308         -> loss_spike warning loss_spike_1.8e+308pct snapshot
31..39  loss=0.74
40      loss=inf           -> nan critical nan snapshot
41..59  loss=0.74
60      loss=3.0           -> loss_spike warning loss_spike_305.4pct gated
