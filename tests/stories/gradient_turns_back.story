# Gradients that undo one another three times in a row.
0..9    loss=0.74 grad_cosine=0.1
10..11  loss=0.74 grad_cosine=-0.8
12      loss=0.74 grad_cosine=-0.7   -> gradient_direction warning gradient_direction_-0.70
13..20  loss=0.74 grad_cosine=0.1
