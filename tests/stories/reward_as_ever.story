# The same rewards in another order, and rewards that shift by less than their spread explains.
near reward_distribution_drift
0..99     reward=1,2,3,4,5
100..149  reward=5,3,1,2,4
150..249  reward=1.2,2.2,3.2,4.2,5.2
