"""For the soak's clock jumps: `time.time` of this interpreter is off by the seconds written in the file $SOAK_CLOCK.

Setting the machine's own clock would be felt by everything else on it.
"""

import os
import time

_real = time.time


def _jumping() -> float:
    try:
        with open(os.environ["SOAK_CLOCK"], encoding="ascii") as file:
            return _real() + float(file.read() or 0)
    except (OSError, ValueError, KeyError):
        return _real()


time.time = _jumping
