# The guide's third example after noise of one per cent: chance alone does not reach as far.
0..4    loss=0.6589
5..34   loss=0.6589~1%
35      loss=0.6321        -> best_model info best_model_loss_0.6321 snapshot
