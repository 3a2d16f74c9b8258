# Less than twice the limit that copies keep free is told on the tick that says so, and once.
near disk_low
0..9    loss=0.74
tick +10s disk_free_bytes=5e9
tick +10s disk_free_bytes=2e9   -> disk_low warning disk_low_1.9gib ; incident opened
tick +10s disk_free_bytes=1.9e9 -> nothing
tick +10s disk_free_bytes=5e9
tick +10s disk_free_bytes=5e9
tick +10s disk_free_bytes=5e9   -> incident resolved
tick +10s disk_free_bytes=NaN
