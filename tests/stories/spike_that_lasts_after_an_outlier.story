# Outliers raise the run's own bar, but not for what lasts: three high losses in a row are told though single ones no longer are.
use disabled_rules=drift,plateau,best_model
0..59     loss=1.00~4%
60        loss=4.0      -> loss_spike warning loss_spike_296.4pct snapshot
61..79    loss=1.00~4%
80        loss=3.9      -> loss_spike warning loss_spike_287.2pct gated
81..99    loss=1.00~4%
100       loss=1.85
101..109  loss=1.00~4%
110       loss=1.85
111       loss=1.85
112..116  loss=1.85      -> loss_spike warning loss_spike_89.5pct gated @112
117..160  loss=1.00~4%
