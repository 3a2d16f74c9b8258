"""A process that has imported one framework and, told so on its standard input, saves or loads with it in a child.

    python -m tests.writers.stage KIND

One JSON object a line. {"do": "save", "folder": F, "saves": N, "pause": S} answers {"pid": P} at once and {"exit": code}
when the child, leader of its own group, has ended; {"do": "load", "paths": [...]} answers {path: "" or the error}.
Imports cost seconds and a trial is killed after a few tenths of one: so each trial is a fork of this process.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

from tests.writers import savers


def fork(work: Any) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def say(answer: dict[str, Any]) -> None:
    os.write(STDOUT, json.dumps(answer).encode() + b"\n")


def loads(kind: Any, paths: list[str]) -> dict[str, str]:
    """What loading each of them raised, in a child: what a torn file does to a reader is not known beforehand."""
    answers = {}
    for path in paths:
        reader, writer = os.pipe()

        def attempt(path: str = path, writer: int = writer) -> None:
            try:
                kind.load(path)
                said = ""
            except BaseException as error:
                said = f"{type(error).__name__}: {error}"[:300]
            os.write(writer, said.encode() or b"\n")

        pid = fork(attempt)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read()
        os.waitpid(pid, 0)
        answers[path] = said.decode().strip() if said else "the reader died"
    return answers


def main() -> None:
    kind = getattr(savers, sys.argv[1])()
    kind.prepare()
    say({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "save":
            pid = fork(lambda order=order: kind.save(order["folder"], order["saves"], order["pause"]))
            say({"pid": pid})
            _, status = os.waitpid(pid, 0)
            say({"exit": os.waitstatus_to_exitcode(status)})
        else:
            say(loads(kind, order["paths"]))


if __name__ == "__main__":
    # Frameworks print as they like: the answers have the real standard output to themselves.
    STDOUT = os.dup(1)
    os.dup2(2, 1)
    main()
