# A process that ended after its last word, or that nobody knows, is not dead.
near process_gone
0..9    loss=0.74
tick +10s alive pid=7 started=1
state completed
tick +10s finished pid=7 started=1
tick +9000s finished pid=7 started=1
tick +10s unknown
