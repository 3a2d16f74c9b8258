# A fixed limit: 0.55 is beyond it, and beyond what this calm run's noise explains; 0.3 as a ratio says nothing yet.
use fixed_loss_threshold=0.54 fixed_grad_norm_threshold=1.2
0..39   loss=0.5~0.2% grad_norm=1.0~1%
40      loss=0.55 grad_norm=1.0    -> loss_spike warning loss_spike_10.0pct snapshot
41..60  loss=0.5~0.2% grad_norm=1.0~1%   -> incident resolved @45
61      loss=0.5 grad_norm=1.5     -> gradient_explosion warning gradient_explosion_1.5 snapshot
62..70  loss=0.5~0.2% grad_norm=1.0~1%
