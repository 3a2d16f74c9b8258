# Median + 2 x 1.4826 MAD of the last 50: a rise of 20 % in a calm run, which no ratio of 30 % tells.
use spike_strategies=ratio,mad
0..59   loss=0.5~0.5%
60      loss=0.6           -> loss_spike warning loss_spike_19.9pct snapshot
61..75  loss=0.5~0.5%      -> incident resolved @65
