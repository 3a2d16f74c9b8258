# A restart opens every gate: the best model that waited is kept before rotation takes it.
0..39     loss=1.0
40        loss=0.9         -> best_model info best_model_loss_0.9000 snapshot
41..60    loss=0.9
61        loss=0.8         -> best_model info best_model_loss_0.8000 gated
62..99    loss=0.8
50        loss=0.85        -> restart info restart_attempt_2 ; snapshot best_model_loss_0.8000
51..60    loss=0.85
