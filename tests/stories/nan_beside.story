# A side metric that is NaN for ever must not hide the NaN of the loss.
0..9    loss=0.74
10      loss=0.74 bleu=NaN     -> nan critical nan_bleu snapshot
11..14  loss=0.74
15      loss=NaN               -> nan critical nan snapshot
16..20  loss=0.74
