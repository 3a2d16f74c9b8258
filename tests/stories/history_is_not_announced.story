# What stood there at first contact is folded: findings are history, nothing is kept, an open incident is told once.
0..29   loss=0.74 historical
30      loss=1.5 historical -> loss_spike warning loss_spike_102.7pct ; incident opened
31      loss=1.5           -> incident opened
32..40  loss=0.74          -> incident resolved @36
41      loss=3.0           -> loss_spike warning loss_spike_305.4pct snapshot
