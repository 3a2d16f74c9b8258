# 2 % are against the last announced best: small improvements add up instead of moving the mark with them.
use noise_guard=false loss_window=4
0..3    loss=1.0
4       loss=0.99
5       loss=0.985
6       loss=0.979         -> best_model info best_model_loss_0.9790 snapshot
7       loss=0.97
8       loss=0.96
9       loss=0.0 grad_norm=1.0
10      loss=0.9           -> best_model info best_model_loss_0.9000 gated
