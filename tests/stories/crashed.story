# The trainer says that it crashed; a record ends it.
near process_gone
0..9    loss=0.74
state idle
state crashed out of memory -> process_gone critical process_gone ; incident opened
state crashed out of memory
tick +1000s
10      loss=0.74          -> incident resolved
state completed
