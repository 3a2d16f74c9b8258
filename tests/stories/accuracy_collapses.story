# Back at chance for a second record.
0..49     loss=0.7 accuracy=12>80
50..79    loss=0.7 accuracy=80~1%
80        loss=0.7 accuracy=10   -> accuracy_drop warning accuracy_drop_69.8pct snapshot ; incident opened
81        loss=0.7 accuracy=11   -> snapshot accuracy_drop_not_recovered if newer ; incident escalated
82..90    loss=0.7 accuracy=11
