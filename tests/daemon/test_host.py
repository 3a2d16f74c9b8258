"""Host figures: from psutil, from control groups, and from NVML where it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from smart_monitor.daemon import host
from tests.command_line import ROOT
from tests.waiting import PATIENCE

NVML = """
NVML_TEMPERATURE_GPU, NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC = 0, 1, 0
class NVMLError(Exception): pass
class Memory: used, total = 70 << 30, 80 << 30
class Rates: gpu = 93
def nvmlInit(): pass
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetHandleByIndex(number): return number
def nvmlDeviceGetUtilizationRates(handle): return Rates
def nvmlDeviceGetMemoryInfo(handle): return Memory
def nvmlDeviceGetTemperature(handle, kind): return 61
def nvmlDeviceGetPowerUsage(handle): return 512345
def nvmlDeviceGetTotalEccErrors(handle, kind, counter):
    if handle: raise NVMLError("not supported")
    return 0
"""
ASKED = "from smart_monitor.daemon import gpu; print(gpu.figures(), gpu.figures() == gpu.figures())"


def test_figures_of_this_machine_are_numbers_that_can_be(tmp_path: Path) -> None:
    found = host.figures({str(tmp_path): os.getpid(), str(tmp_path / "gone"): None})[str(tmp_path)]
    assert {"host_cpu_percent", "host_memory_percent", "disk_free_bytes"} <= found.keys()
    assert all(0 <= value <= 100 for name, value in found.items() if name.endswith("percent"))
    assert "disk_free_bytes" not in host.figures({str(tmp_path / "gone"): 1 << 30})[str(tmp_path / "gone")]


def group(place: Path, **files: str) -> str:
    place.mkdir(parents=True)
    for name, content in files.items():
        (place / name.replace("__", ".")).write_text(content)
    return str(place)


def test_what_a_group_uses_is_reckoned_without_the_pages_that_are_free_to_go(tmp_path: Path) -> None:
    made = group(tmp_path / "a", memory__max="1000\n", memory__current="950\n", memory__stat="anon 1\ninactive_file 150\n")
    assert 80.0 == host.group_percent(made, root=str(tmp_path))
    (tmp_path / "a" / "memory.current").write_text("550\n")
    assert 40.0 == host.group_percent(made, root=str(tmp_path))
    old = group(
        tmp_path / "b", memory__limit_in_bytes="1000\n", memory__usage_in_bytes="500\n", memory__stat="total_inactive_file 0\n"
    )
    assert 50.0 == host.group_percent(old, root=str(tmp_path))


def test_the_limit_of_a_group_further_up_counts_and_none_is_none(tmp_path: Path) -> None:
    group(tmp_path / "up", memory__max="1000\n", memory__current="500\n", memory__stat="")
    inner = group(tmp_path / "up" / "inner", memory__max="max\n", memory__current="100\n", memory__stat="")
    assert 50.0 == host.group_percent(inner, root=str(tmp_path))
    free = group(tmp_path / "free", memory__limit_in_bytes=f"{(1 << 63) - 4096}\n", memory__usage_in_bytes="5\n")
    assert host.group_percent(free, root=str(tmp_path)) is None
    assert host.group_percent("/etc/../sys/fs/cgroup/x") is None


@pytest.mark.parametrize("module", ["", "raise OSError('no driver')", NVML])
def test_gpus_are_told_of_where_there_are_any_and_missed_in_silence(tmp_path: Path, module: str) -> None:
    (tmp_path / "pynvml.py").write_text(module)
    done = subprocess.run(
        [sys.executable, "-c", ASKED], env=dict(os.environ) | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert "" == done.stderr
    if module == NVML:
        assert "'gpu0_memory_percent': 87.5" in done.stdout
        assert "'gpu1_power_watts': 512.3" in done.stdout
        assert "'gpu0_ecc_errors': 0.0" in done.stdout
        assert "'gpu1_ecc_errors'" not in done.stdout
    else:
        assert done.stdout.startswith("{} True")
