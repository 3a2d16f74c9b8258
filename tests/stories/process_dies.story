# The process is gone: told at once and once, however late its last lines come; the next one starts in peace.
near process_gone
0..9    loss=0.74
tick +10s alive pid=7 started=1
tick +10s dead pid=7 started=1 -> process_gone critical process_gone ; incident opened
tick +10s dead pid=7 started=1 -> nothing
tick +9000s dead pid=7 started=1 -> nothing
10      loss=0.74 -> incident resolved
tick +10s dead pid=7 started=1
tick +10s alive pid=8 started=2
tick +1500s alive pid=8 started=2
11..20  loss=0.74
tick +10s dead pid=8 started=2 -> process_gone critical process_gone
