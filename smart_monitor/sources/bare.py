"""Numbers that are none, as writers put them who make their JSON with `print`: `"loss": nan`, `-inf`. Pure.

Python's decoder knows `NaN` and `Infinity` only. A row that nobody could decode would be the very one that matters.
"""

from __future__ import annotations

import re

_BARE = re.compile(r"([:,\[]\s{0,8})([-+]?)(nan|inf(?:inity)?)(?=\s{0,8}[,}\]])", re.IGNORECASE)


def respelled(text: str) -> str:
    """`text` with such numbers as the decoder spells them."""
    return _BARE.sub(lambda m: m[1] + ("NaN" if m[3][0] in "nN" else m[2].replace("+", "") + "Infinity"), text)
