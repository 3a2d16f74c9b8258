# A batch size that changes without a trace in the loss is nobody's business.
near batch_size_impact
0..49    loss=0.74~1% batch_size=64
50..99   loss=0.75~1% batch_size=128
