# Linear warm-up from zero in steps that grow by more than 30 % at first, then a constant rate.
near learning_rate_change
use disabled_rules=plateau
0       loss=0.74 learning_rate=0
1       loss=0.74 learning_rate=1e-05
2       loss=0.74 learning_rate=2e-05
3       loss=0.74 learning_rate=3e-05
4       loss=0.74 learning_rate=4e-05
5       loss=0.74 learning_rate=5e-05
6       loss=0.74 learning_rate=6e-05
7       loss=0.74 learning_rate=7e-05
8       loss=0.74 learning_rate=8e-05
9       loss=0.74 learning_rate=9e-05
10      loss=0.74 learning_rate=0.0001
11      loss=0.74 learning_rate=0.00011
12      loss=0.74 learning_rate=0.00012
13      loss=0.74 learning_rate=0.00013
14      loss=0.74 learning_rate=0.00014
15      loss=0.74 learning_rate=0.00015
16      loss=0.74 learning_rate=0.00016
17      loss=0.74 learning_rate=0.00017
18      loss=0.74 learning_rate=0.00018
19      loss=0.74 learning_rate=0.00019
20      loss=0.74 learning_rate=0.0002
21      loss=0.74 learning_rate=0.0002
22      loss=0.74 learning_rate=0.0002
23      loss=0.74 learning_rate=0.0002
24      loss=0.74 learning_rate=0.0002
25      loss=0.74 learning_rate=0.0002
26      loss=0.74 learning_rate=0.0002
27      loss=0.74 learning_rate=0.0002
28      loss=0.74 learning_rate=0.0002
29      loss=0.74 learning_rate=0.0002
30      loss=0.74 learning_rate=0.0002
