# A spike that lasts is one finding; after fifteen records its incident is critical and asks for a newer checkpoint.
0..29   loss=0.74
30      loss=1.5           -> loss_spike warning loss_spike_102.7pct snapshot ; incident opened
31..43  loss=1.5           -> nothing
44      loss=1.5           -> snapshot loss_spike_not_recovered if newer ; incident escalated
45..58  loss=1.5           -> incident resolved @49
59..99  loss=1.5           -> nothing
