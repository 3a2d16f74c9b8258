"""What layers put out: units that never fire, units that are saturated, values that are no numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from smart_monitor.inprocess.options import positive

SATURATING: dict[str, tuple[float, ...]] = {
    "Sigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0), "Hardsigmoid": (0.0, 1.0), "Hardtanh": (-1.0, 1.0), "Softsign": (-1.0, 1.0),
    "ReLU6": (6.0,),
}  # fmt: skip
"""Class -> the values it saturates at; a Hardtanh says itself."""
RECTIFYING = ("ReLU", "LeakyReLU", "GELU", "SiLU", "Mish", "ELU", "Softplus", "PReLU", "CELU", "SELU")


class ActivationMonitor:
    """Looks at the outputs of activation layers in the passes between `start()` and `stop()`, or within a `with`.

        with ActivationMonitor(model) as activations:
            model(batch)
        activations.statistics()

    A unit is one place of the last dimension (one channel of images). It is dead if its activation was exactly 0 for
    all that was seen, saturated if more than `share` of its values were within `margin` of a bound of its function.
    The hooks only write to tensors on the device; `statistics()` waits for it.
    """

    def __init__(self, model: nn.Module, layers: Iterable[str] | None = None, margin: float = 0.01, share: float = 0.95) -> None:
        """`layers`: dotted names; by default every module of a known activation class. Raises ValueError for an unknown name."""
        positive(margin=margin, share=share)
        self.margin, self.share = margin, share
        modules = dict(model.named_modules())
        wanted = list(layers) if layers is not None else [
            name for name, module in modules.items() if type(module).__name__ in (*SATURATING, *RECTIFYING)
        ]  # fmt: skip
        for name in wanted:
            if name not in modules:
                raise ValueError(f"no module goes by {name!r}")
        self._modules = {name: modules[name] for name in wanted}
        self._seen: dict[str, dict[str, Tensor]] = {}
        self._hooks: list[Any] = []

    def start(self) -> ActivationMonitor:
        """Begin to look, at nothing seen so far."""
        self.stop()
        self._seen = {}
        for name, module in self._modules.items():
            self._hooks.append(module.register_forward_hook(_Hook(self, name)))
        return self

    def stop(self) -> None:
        """Look no more; what was seen stays."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def __enter__(self) -> ActivationMonitor:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def statistics(self) -> dict[str, dict[str, float]]:
        """Layer -> dead_fraction, saturated_fraction (0.0 where the function has no bounds), zero_fraction, mean, rms, nan
        (elements that are no finite numbers). Layers that were not called are left out.
        """
        found = {}
        for name, seen in self._seen.items():
            count, total = seen["count"], seen["count"].sum()
            found[name] = {
                "dead_fraction": float((seen["zeros"] == count).double().mean()),
                "saturated_fraction": float((seen["bound"] > self.share * count).double().mean()),
                "zero_fraction": float(seen["zeros"].sum() / total), "mean": float(seen["sum"].sum() / total),
                "rms": float((seen["squares"].sum() / total).sqrt()), "nan": float(seen["nan"].sum()),
            }  # fmt: skip
        return found

    def metrics(self) -> Mapping[str, float]:
        """Over all layers, under the names that records carry: `dead_fraction` (which the rule dead_units judges),
        `saturated_fraction`, each that of the worst layer. Empty if nothing was seen.
        """
        layers = self.statistics().values()
        return {key: max(s[key] for s in layers) for key in ("dead_fraction", "saturated_fraction")} if layers else {}

    def look(self, name: str, output: Any) -> None:
        """Add what the layer of that name has put out."""
        if isinstance(output, Tensor) and output.is_floating_point() and output.numel() and output.dim():
            seen = self._counted(output.detach(), _bounds(self._modules[name]))
            before = self._seen.get(name)
            if before is not None and before["zeros"].shape == seen["zeros"].shape:
                seen = {key: value + before[key] for key, value in seen.items()}
            self._seen[name] = seen

    def _counted(self, output: Tensor, bounds: tuple[float, ...]) -> dict[str, Tensor]:
        """Sums for each unit."""
        rows = output.transpose(1, -1) if output.dim() == 4 else output  # images: [B, C, H, W]
        rows = rows.reshape(-1, rows.shape[-1]).float()
        whole = torch.isfinite(rows)
        clean = torch.where(whole, rows, 0.0)
        near = torch.zeros_like(whole)
        for bound in bounds:
            near |= (rows - bound).abs() <= self.margin
        return {
            "count": torch.full((rows.shape[-1],), rows.shape[0], device=rows.device), "zeros": (rows == 0).sum(0),
            "bound": near.sum(0), "sum": clean.sum(0), "squares": clean.square().sum(0), "nan": (~whole).sum(0),
        }  # fmt: skip


class _Hook:
    """Of one layer. No closure: a module that is watched can still be pickled and copied."""

    def __init__(self, monitor: ActivationMonitor, name: str) -> None:
        self._monitor, self._name = monitor, name

    def __call__(self, _module: nn.Module, _arguments: Any, output: Any) -> None:
        self._monitor.look(self._name, output)


def _bounds(module: nn.Module) -> tuple[float, ...]:
    if type(module) is nn.Hardtanh:
        return float(module.min_val), float(module.max_val)
    return SATURATING.get(type(module).__name__, ())
