# Where the counter counts epochs the gate is 20 records.
0..29   loss=0.74 by=epoch
30      loss=1.5 by=epoch  -> loss_spike warning loss_spike_102.7pct snapshot
31..40  loss=0.74 by=epoch
41      loss=3.0 by=epoch  -> loss_spike warning loss_spike_305.4pct gated
42..49  loss=0.74 by=epoch
50      loss=3.0 by=epoch  -> loss_spike warning loss_spike_305.4pct snapshot
