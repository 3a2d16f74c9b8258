# The guide's third example after noise of half a per cent.
0..34   loss=0.6589~0.5%
35      loss=0.6321        -> best_model info best_model_loss_0.6321 snapshot
