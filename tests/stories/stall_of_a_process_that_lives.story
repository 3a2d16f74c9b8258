# A process that lives and gives nothing has half an hour to start, and to compile its first step; then its own rhythm counts.
near stall
tick +10s alive
tick +1700s alive
0         loss=0.74
tick +1700s alive
1..20     loss=0.74
tick +290s alive
tick +20s alive process_cpu_percent=100 -> stall warning stall
