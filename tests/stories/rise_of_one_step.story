# Eight of nine steps rise by next to nothing and the ninth by much: that is one value far above its level, and no course.
use disabled_rules=best_model
near divergence
0..99     loss=0.14~18%
100..109  loss=0.105,0.16,0.17,0.098,0.111,0.117,0.12,0.124,0.138,0.354
110..130  loss=0.14~18%
