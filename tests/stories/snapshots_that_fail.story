# A snapshot that fails or loses its checkpoint is told each time, and a failed one does not shut its gate.
near snapshot_failed checkpoint_lost
0..29   loss=0.74
30      loss=1.5           -> loss_spike warning loss_spike_102.7pct snapshot
outcome failed             -> snapshot_failed warning snapshot_failed
31..39  loss=0.74
40      loss=3.0           -> loss_spike warning loss_spike_305.4pct snapshot
outcome published
outcome lost               -> checkpoint_lost warning checkpoint_lost
41..49  loss=0.74
50      loss=3.0           -> loss_spike warning loss_spike_305.4pct gated
