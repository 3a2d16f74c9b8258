# The first evaluations after a restart scatter more than the last ones before it: three of them are no level yet.
near accuracy_drop
0..59     loss=0.7 eval_accuracy=77~1%
60..62    loss=0.7 epoch=0 pid=2 eval_accuracy=78.3,77,76.5
