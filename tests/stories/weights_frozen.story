# A gradient of exactly zero for five records, and an update that moves nothing; a row without either says nothing.
0..29   loss=0.74 grad_norm=0.5~10% update_ratio=1e-3
30..33  loss=0.74 grad_norm=0.0 update_ratio=1e-3
34      loss=0.74 grad_norm=0.0 update_ratio=1e-3     -> update_frozen warning update_frozen ; incident opened
35..39  loss=0.74                 -> nothing
40..50  loss=0.74 grad_norm=0.5~10% update_ratio=1e-3  -> incident resolved @40
51..60  loss=0.74 grad_norm=0.5~10% update_ratio=1e-12 -> update_frozen warning update_frozen @55
