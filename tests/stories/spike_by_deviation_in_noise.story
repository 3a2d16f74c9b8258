# Above the median + 2 deviations every now and then, but never further than this run's own noise reaches.
near loss_spike
use spike_strategies=mad,step
0..159  loss=0.5~8%
