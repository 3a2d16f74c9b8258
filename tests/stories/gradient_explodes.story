# A norm that leaves its level is told with the loss spike that follows it as one incident.
0..29   loss=0.74 grad_norm=1.0~10%
30      loss=0.74 grad_norm=55       -> gradient_explosion warning gradient_explosion_55 snapshot ; incident opened
31      loss=1.5 grad_norm=3.0       -> loss_spike warning loss_spike_102.7pct snapshot ; incident updated
32..45  loss=0.74 grad_norm=1.0~10%  -> incident resolved @36
