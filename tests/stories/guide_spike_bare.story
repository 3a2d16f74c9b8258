# The guide's first example, by the letter: 37.8 % is 1.02 over 0.74.
use noise_guard=false
0..2    loss=0.74
3       loss=1.02          -> loss_spike warning loss_spike_37.8pct snapshot ; incident opened
