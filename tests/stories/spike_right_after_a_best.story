# Each rule has its own gate: the snapshot of a best model does not cost the one of the spike behind it.
0..39   loss=1.0
40      loss=0.9           -> best_model info best_model_loss_0.9000 snapshot
41      loss=1.9           -> loss_spike warning loss_spike_93.9pct snapshot
