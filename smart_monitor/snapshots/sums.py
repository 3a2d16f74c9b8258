r"""SHA256SUMS as `sha256sum -c` reads it (GNU coreutils): `DIGEST  NAME`, odd names escaped.

A name with a backslash, newline or carriage return makes the line begin with a backslash, and those
characters are written `\\`, `\n`, `\r`. Names are bytes: a file name need not be valid in any encoding.
"""

from __future__ import annotations

import os
import re

NAME = "SHA256SUMS"
_LINE = re.compile(rb"^(\\?)([0-9a-f]{64}) [ *](.+)$", re.DOTALL)
_ESCAPES = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}
_UNESCAPES = {v: k for k, v in _ESCAPES.items()}


def render(digests: dict[str, str]) -> bytes:
    """The file for a map from POSIX path to hexadecimal digest, sorted by path."""
    return b"".join(_line(os.fsencode(path), digests[path].encode()) for path in sorted(digests))


def _line(path: bytes, digest: bytes) -> bytes:
    escaped = re.sub(rb"[\\\n\r]", lambda m: _ESCAPES[m[0]], path)
    return (b"\\" if escaped != path else b"") + digest + b"  " + escaped + b"\n"


def parse(text: bytes) -> dict[str, str]:
    """Path -> digest. Raises ValueError, naming the line, for anything that `render` would not write."""
    digests: dict[str, str] = {}
    if text and not text.endswith(b"\n"):
        raise ValueError("the last line is cut off")
    for number, line in enumerate(text.split(b"\n")[:-1], 1):
        match = _LINE.match(line)
        if not match:
            raise ValueError(f"line {number} is not a digest and a name")
        path = match[3]
        if match[1]:
            path = re.sub(rb"\\[\\nr]", lambda m: _UNESCAPES[m[0]], path)
        digests[os.fsdecode(path)] = match[2].decode()
    return digests
