# Three values know little: the largest of two steps may well be small by chance.
near loss_spike
0         loss=0.75
1         loss=0.76
2         loss=0.68
3         loss=1.04
4..19     loss=0.8,0.86,0.85,1.06,0.62,0.7        -> nothing
