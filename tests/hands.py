"""What a person's hands do to a directory while we work in it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.waiting import PATIENCE


def delete_by_hand(path: Path, limit: float = PATIENCE) -> None:
    """`rm -rf`, again while somebody still writes below it. shutil.rmtree raises when another process deletes there as well."""
    deadline = time.monotonic() + limit
    while (done := subprocess.run(["rm", "-rf", path], capture_output=True, text=True, check=False)).returncode:
        assert time.monotonic() < deadline, done.stderr
