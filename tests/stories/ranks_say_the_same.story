# Three ranks turn NaN at one step: three findings, one incident, one snapshot; the end of it is one, too.
near rank_lag
0..29   loss=0.74 ranks=0,1,2
30      loss=NaN ranks=0,1,2 -> nan critical nan snapshot ; nan critical nan ; nan critical nan ; incident opened ; incident updated ; incident updated
31..33  loss=NaN ranks=0,1,2 -> nothing
34..38  loss=0.74 ranks=0,1,2
39..45  loss=0.74 ranks=0,1,2
