# Neighbours differ by a factor of two all the time: one batch of four times the level is chance, several in a row are not.
near loss_spike
0..79     loss=0.8,1.1,0.7,1.2,1.3,0.8,0.75,1.0,0.6,0.9,1.4,1.0
80        loss=4
81..120   loss=0.8,1.1,0.7,1.2,1.3,0.8,0.75,1.0,0.6,0.9,1.4,1.0   -> nothing
121..122  loss=5
123       loss=5                                  -> loss_spike warning loss_spike_420.8pct snapshot
