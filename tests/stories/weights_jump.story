# The norm of all weights jumps by a fifth from one record to the next.
0..39   loss=0.74 weight_norm=100>104
40      loss=0.74 weight_norm=125    -> weight_instability warning weight_instability_125
41..50  loss=0.74 weight_norm=104>105
