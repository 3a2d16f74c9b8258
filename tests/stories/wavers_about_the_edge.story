# What lasts drops below the edge now and then: it has not come back, and must not teach the run that such losses are noise.
use disabled_rules=drift,plateau,best_model,instability
0..299    loss=0.66,0.85,0.64,0.81,0.80,0.46,0.75,0.74,0.59,0.70
300..301  loss=0.93,0.78
302..304  loss=1.75,1.45,1.40
305       loss=2.28        -> loss_spike warning loss_spike_204.8pct snapshot
306..309  loss=2.03,1.90,1.68,2.57
