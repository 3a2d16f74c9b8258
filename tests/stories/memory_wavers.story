# Memory that wavers about the limit is one outage; a GPU's is told, and is no trouble; the container's limit counts as well.
near memory_growth
0..9    loss=0.74
tick +10s host_memory_percent=92
tick +10s host_memory_percent=92
tick +10s host_memory_percent=92 -> memory_growth warning memory_growth_92pct ; incident opened
tick +10s host_memory_percent=87
tick +10s host_memory_percent=89
tick +10s host_memory_percent=84
tick +10s host_memory_percent=92 -> nothing
tick +10s host_memory_percent=84
tick +10s host_memory_percent=84
tick +10s host_memory_percent=84 -> incident resolved
tick +10s gpu0_memory_percent=97
tick +10s gpu0_memory_percent=97
tick +10s gpu0_memory_percent=97 -> memory_growth info memory_growth_97pct
tick +10s gpu0_memory_percent=97 container_memory_percent=95
tick +10s gpu0_memory_percent=97 container_memory_percent=95
tick +10s gpu0_memory_percent=97 container_memory_percent=95 -> memory_growth warning memory_growth_95pct ; incident opened
tick +10s gpu0_memory_percent=97 container_memory_percent=95 -> nothing
