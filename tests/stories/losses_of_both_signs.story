# Where losses take both signs a ratio means nothing; noises count, twice as many.
0..39   loss=-0.5,0.4,-0.3,0.6,0.1
40      loss=1.4
41..50  loss=-0.5,0.4,-0.3,0.6,0.1
51      loss=40            -> loss_spike warning loss_spike_z56.7 snapshot
52..60  loss=-0.5,0.4,-0.3,0.6,0.1
