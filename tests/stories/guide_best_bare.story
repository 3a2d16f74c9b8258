# The guide's third example, by the letter, and an improvement of less than 2 % that is none.
use noise_guard=false
near best_model
0..3    loss=0.6589
4       loss=0.6460
5       loss=0.6321        -> best_model info best_model_loss_0.6321 snapshot
6       loss=0.6200
