# Back at its initial value for a second record: what was learned is lost, and nobody waits fifteen records to say so.
use disabled_rules=best_model
0..49     loss=4>0.6
50..79    loss=0.6~2%
80        loss=4.1         -> loss_spike warning loss_spike_577.9pct snapshot ; incident opened
81        loss=4.2         -> snapshot loss_spike_not_recovered if newer ; incident escalated
82..90    loss=4.1~1%     -> nothing
