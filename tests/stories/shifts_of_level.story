# Down and up again, constant and then not: no level makes the monitor deaf.
0..29     loss=1.0
30        loss=0.5         -> best_model info best_model_loss_0.5000 snapshot
31..60    loss=0.5
61        loss=0.7         -> loss_spike warning loss_spike_40.0pct snapshot
62..74    loss=0.7
75        loss=0.7         -> snapshot loss_spike_not_recovered if newer
76..89    loss=0.7
90..149   loss=0.7           -> nothing
150       loss=1.0         -> loss_spike warning loss_spike_42.9pct gated
