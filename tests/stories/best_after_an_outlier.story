# One outlier inflates the noise for 200 records; what chance reaches, it does not: a best is still a best.
0..39   loss=0.66~0.5%
40      loss=3.3           -> loss_spike warning loss_spike_399.9pct snapshot
41..60  loss=0.66~0.5%
61      loss=0.63          -> best_model info best_model_loss_0.6300 snapshot
