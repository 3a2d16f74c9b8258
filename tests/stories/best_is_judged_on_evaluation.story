# Where evaluation is given, its loss decides, whatever the training loss does.
0..9    loss=1.0
9       eval_loss=1.2
10..19  loss=0.8
19      eval_loss=1.1
20..29  loss=0.6
29      eval_loss=1.15
30      eval_loss=1.0      -> best_model info best_model_eval_loss_1.0000 snapshot
