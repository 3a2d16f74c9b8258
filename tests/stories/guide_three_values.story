# The guide's second worked example; by our formula it is 59.7 % over the mean of 0.72.
15000   loss=0.73
15100   loss=0.72
15200   loss=0.71
15300   loss=1.15          -> loss_spike warning loss_spike_59.7pct snapshot
