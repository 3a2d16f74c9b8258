# A second spike within 500 steps of the first is told, its snapshot is held back; a third, later, is kept.
use disabled_rules=plateau
0..29    loss=0.74
30       loss=1.5          -> loss_spike warning loss_spike_102.7pct snapshot
31..99   loss=0.74
100      loss=3.0          -> loss_spike warning loss_spike_305.4pct gated
101..529 loss=0.74
530      loss=3.0          -> loss_spike warning loss_spike_305.4pct snapshot
