# Three ticks above 90 %; two are nothing, nor is 89 % for ever.
near memory_growth
0..9    loss=0.74
tick +10s host_memory_percent=89
tick +10s host_memory_percent=92
tick +10s host_memory_percent=95
tick +10s host_memory_percent=89
tick +10s host_memory_percent=92
tick +10s host_memory_percent=93
tick +10s host_memory_percent=96 -> memory_growth warning memory_growth_96pct
tick +10s host_memory_percent=96
