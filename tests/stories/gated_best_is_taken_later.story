# A best model that a gate holds back is taken when the gate opens, and the last one when the run completes.
use disabled_rules=plateau
0..39     loss=1.0
40        loss=0.9         -> best_model info best_model_loss_0.9000 snapshot
41..60    loss=0.9
61        loss=0.8         -> best_model info best_model_loss_0.8000 gated
62..539   loss=0.8
540       loss=0.8         -> snapshot best_model_loss_0.8000
541..600  loss=0.8
601       loss=0.7         -> best_model info best_model_loss_0.7000 gated
602..610  loss=0.7
state completed            -> snapshot best_model_loss_0.7000
