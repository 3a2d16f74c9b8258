"""A real systemd manager in namespaces of its own: PID 1 of this machine need not be systemd, and nothing outlives the test."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import pytest

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "systemd" / "smart-monitor@.service"
HARDENING = ROOT / "systemd" / "smart-monitor@.service.d" / "hardening.conf"
SYSTEMD = Path("/lib/systemd/systemd")
UNSHARE = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]

SETUP = """
mount -t tmpfs tmpfs /run || exit 1
mkdir -p /run/systemd/system "$XDG_RUNTIME_DIR"
/lib/systemd/systemd --user --unit=basic.target >"$HOME/manager.log" 2>&1 &
until systemctl --user is-active --quiet basic.target; do sleep 0.1; done
# A system manager makes these where a user's manager with root's rights looks for them, too.
cp -a "$XDG_RUNTIME_DIR/systemd/inaccessible" /run/systemd/
exec sh
"""


def skip_unless_possible() -> None:
    """Skip, saying why, where no manager can run."""
    if os.geteuid() != 0:
        pytest.skip("a systemd manager in a namespace needs root")
    if not SYSTEMD.exists():
        pytest.skip(f"no {SYSTEMD} on this machine (Debian: apt-get install systemd)")
    try:
        probe = subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/run"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare on this machine")
    if probe.returncode:
        pytest.skip(f"this machine gives no namespaces: {probe.stderr.strip()}")


def install(units: Path, *, hardened: bool) -> None:
    """The unit as it is shipped, but with this interpreter, and with times that a test can wait for."""
    units.mkdir(parents=True)
    text = TEMPLATE.read_text().replace("/opt/smart-monitor/bin/python", sys.executable)
    (units / TEMPLATE.name).write_text(text)
    extra = units / f"{TEMPLATE.name}.d"
    extra.mkdir()
    (extra / "test.conf").write_text(
        f"[Service]\nEnvironment=PYTHONPATH={ROOT}\nWatchdogSec=4\nTimeoutAbortSec=1\nRestartSec=200ms\n"
    )
    if hardened:
        (extra / HARDENING.name).write_text(HARDENING.read_text())


class Manager:
    """`with Manager(home) as manager: manager.run("systemctl --user ...")`; home/.config/systemd/user holds the units."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __enter__(self) -> Self:
        environment = {**os.environ, "HOME": str(self.home), "XDG_RUNTIME_DIR": f"/run/user/{os.geteuid()}"}
        self._shell = subprocess.Popen(
            [*UNSHARE, "sh", "-c", SETUP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        self.run("true")
        return self

    def __exit__(self, *_: object) -> None:
        self._shell.kill()
        self._shell.communicate()

    def run(self, command: str, seconds: float = 30.0) -> tuple[int, str]:
        """Exit status and output of one shell command, inside."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{{ {command}\n}} 2>&1 </dev/null; status=$?; echo; echo done-$status-\n".encode())
        self._shell.stdin.flush()
        output, deadline = b"", time.monotonic() + seconds
        while not (output.endswith(b"-\n") and b"\ndone-" in output):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._shell.stdout], [], [], max(0.0, left))
            chunk = os.read(self._shell.stdout.fileno(), 65536) if ready else b""
            assert chunk, f"{command}: no answer in {seconds} s or the manager died, after {output!r}"
            output += chunk
        text, _, status = output.decode().rpartition("\ndone-")
        return int(status.strip("-\n")), text.strip()

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.run(f"systemctl --user show '{unit}' -p {name} --value")[1]

    def wait_for(self, unit: str, name: str, wanted: str, seconds: float = 20.0) -> None:
        """Until a property has the value wanted."""
        deadline = time.monotonic() + seconds
        while (found := self.show(unit, name)) != wanted:
            assert time.monotonic() < deadline, f"{name} is {found!r}, not {wanted!r}"
            time.sleep(0.1)
