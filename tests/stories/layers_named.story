# What the probe says of single layers is named by whatever fires; a layer that stops learning is told while others go on.
0..29   loss=0.74 grad_norm=1.0~10% dead_layers=0 still_layers=0
30      loss=0.74 grad_norm=55 dead_layers=0 grad_layer/a.weight=54 grad_layer/b.weight=2 -> gradient_explosion warning gradient_explosion_55 snapshot ; incident opened
31..40  loss=0.74 grad_norm=1.0~10% dead_layers=0 -> incident resolved @35
41..44  loss=0.74 grad_norm=1.0~10% dead_layers=2 dead_layer/c.weight=1 dead_layer/d.weight=1
45      loss=0.74 grad_norm=1.0~10% dead_layers=2 dead_layer/c.weight=1 dead_layer/d.weight=1 -> layer_frozen warning layer_frozen_dead_layers ; incident opened
46..60  loss=0.74 grad_norm=1.0~10% dead_layers=0 -> incident resolved @46
61..62  loss=0.74 grad_norm=1.0~10% still_layers=1 still_layer/e.weight=1
63      loss=0.74 grad_norm=1.0~10% still_layers=0
64..65  loss=0.74 grad_norm=1.0~10% still_layers=1 still_layer/e.weight=1
66..70  loss=0.74 grad_norm=1.0~10% -> nothing
71      loss=0.74 grad_norm=1.0~10% still_layers=1 still_layer/e.weight=1 -> layer_frozen warning layer_frozen_still_layers
72..80  loss=0.74 grad_norm=1.0~10% stopped_layers=0
81..90  loss=0.74 grad_norm=1.0~10% stopped_layers=1 stopped_layer/f.bias=1 -> layer_frozen warning layer_frozen_stopped_layers @85
