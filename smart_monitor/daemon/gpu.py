"""NVIDIA's figures, where `nvidia-ml-py` (extra `gpu`) and a driver are: silently nothing where they are not.

Asked once every poll interval, on the thread of slow jobs; the library is loaded at the first asking.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

MOST = 16
"""GPUs that are told of."""
MIB = 2**20


def figures() -> dict[str, float]:
    """Of each GPU `gpu0_utilisation_percent`, and likewise memory_percent, memory_used_mib, temperature_celsius, power_watts,
    ecc_errors (uncorrected, since the driver was loaded)."""
    nvml = _loaded()
    if nvml is None:
        return {}
    found: dict[str, float] = {}
    try:
        for number in range(min(MOST, nvml.nvmlDeviceGetCount())):
            found |= {f"gpu{number}_{name}": value for name, value in _of(nvml, nvml.nvmlDeviceGetHandleByIndex(number)).items()}
    except Exception:  # a driver that was unloaded, a GPU that fell off the bus: the next tick may see it again
        _loaded.cache_clear()
    return found


def _of(nvml: Any, handle: Any) -> dict[str, float]:
    """One GPU; what it does not tell is left out."""
    found: dict[str, float] = {}

    def ask(name: str, question: Callable[[], float]) -> None:
        try:
            found[name] = round(float(question()), 1)
        except nvml.NVMLError:
            pass  # not supported by this model, or not in a partition of one

    ask("utilisation_percent", lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        found["memory_percent"] = round(100 * memory.used / memory.total, 1) if memory.total else 0.0
        found["memory_used_mib"] = round(memory.used / MIB)
    except nvml.NVMLError:
        pass
    ask("temperature_celsius", lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    ask("power_watts", lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000)
    uncorrected, volatile = nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
    ask("ecc_errors", lambda: nvml.nvmlDeviceGetTotalEccErrors(handle, uncorrected, volatile))
    return found


@lru_cache(maxsize=1)
def _loaded() -> Any:
    """The library, ready; None where it, the driver or the hardware is missing (which is not looked for again)."""
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:
        return None
    return nvml
