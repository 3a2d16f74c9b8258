# What another run of the same monitor alarms of is no second alarm; a container of its own is.
near disk_low memory_growth
0..9    loss=0.74
tick +10s disk_free_bytes=2e9 disk_free_bytes_elsewhere=1 -> disk_low info disk_low_1.9gib
tick +10s disk_free_bytes=1.9e9 -> nothing
tick +10s disk_free_bytes=5e9
tick +10s disk_free_bytes=5e9
tick +10s disk_free_bytes=5e9
tick +10s host_memory_percent=95
tick +10s host_memory_percent=95
tick +10s host_memory_percent=96 host_memory_percent_elsewhere=1 -> memory_growth info memory_growth_96pct
tick +10s host_memory_percent=96 container_memory_percent=97 host_memory_percent_elsewhere=1
tick +10s host_memory_percent=96 container_memory_percent=97 host_memory_percent_elsewhere=1
tick +10s host_memory_percent=96 container_memory_percent=97 host_memory_percent_elsewhere=1 -> memory_growth warning memory_growth_97pct
