# Two hundred records without a fall are told once, and the noise around the level does not tell it anew.
0..199    loss=0.74              -> plateau info plateau @199
200..500  loss=0.74~0.2%
