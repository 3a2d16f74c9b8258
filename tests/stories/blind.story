# Thirty seconds without sight are told, once, until something is seen.
near blind
0..9    loss=0.74
tick +10s blind=10 no file
tick +20s blind=30 no file -> blind warning blind ; incident opened
tick +10s blind=40 no file -> nothing
tick +10s                  -> incident resolved
tick +10s
tick +40s blind=31 no file -> blind warning blind
10      loss=0.74          -> incident resolved
