# Steps that repeat or come a little late are one attempt, and evaluation may count otherwise.
0..20   loss=0.74
18      loss=0.74
19      loss=0.74
19      loss=0.74
21..30  loss=0.74
3       by=epoch bleu=0.31
31..40  loss=0.74
40      eval_loss=0.8
4       by=epoch accuracy=0.5
41..45  loss=0.74
