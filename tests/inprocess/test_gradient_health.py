"""The gradient monitor: its figures against written-out ones, its lines as people know them, its clipping."""

from __future__ import annotations

import copy
import math
import re
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")

from torch import nn  # noqa: E402

from smart_monitor.probe import GradientHealthMonitor  # noqa: E402

pytestmark = pytest.mark.torch


def backward(scale: float = 1.0, seed: int = 0) -> nn.Module:
    """A small model after a backward pass of a loss times `scale`."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 1))
    (model(torch.randn(16, 6)).square().mean() * scale).backward()
    return model


def norms(model: nn.Module) -> dict[str, float]:
    return {n: float(p.grad.double().norm()) for n, p in model.named_parameters() if p.grad is not None}


def test_the_figures_are_those_written_out_in_double_precision():
    model = backward()
    stats = GradientHealthMonitor(model).check_gradients()
    expected = list(norms(model).values())

    assert stats["global_grad_norm"] == pytest.approx(math.hypot(*expected), rel=1e-6)
    assert stats["max_grad_norm"] == pytest.approx(max(expected), rel=1e-6)
    assert stats["min_grad_norm"] == pytest.approx(min(expected), rel=1e-6)
    assert stats["mean_grad_norm"] == pytest.approx(sum(expected) / len(expected), rel=1e-6)
    assert (stats["has_nan"], stats["has_inf"], stats["recommendations"]) == (False, False, [])
    assert stats["layer_stats"]["0.weight"]["norm"] == pytest.approx(expected[0], rel=1e-6)


def test_the_documented_loop_clips_what_is_above_ten():
    model = backward(1e4)
    monitor = GradientHealthMonitor(model=model, grad_clip_threshold=1.0, log_frequency=100)
    stats = monitor.check_gradients()
    monitor.log_statistics(stats, step=7)
    before = norms(model)
    assert stats["global_grad_norm"] > 10.0
    returned = monitor.apply_gradient_clipping(max_norm=1.0)
    after = norms(model)

    assert returned == pytest.approx(math.hypot(*before.values()), rel=1e-6)
    assert math.hypot(*after.values()) == pytest.approx(1.0, rel=1e-4)
    assert {n: after[n] / before[n] for n in after} == pytest.approx(dict.fromkeys(after, 1 / returned), rel=1e-4)


def test_small_gradients_and_those_that_are_not_finite_are_not_scaled():
    model = backward(1e-3)
    before = norms(model)
    assert GradientHealthMonitor(model).apply_gradient_clipping() < 1.0
    assert norms(model) == before
    model[0].weight.grad[0, 0] = math.nan
    kept = model[2].weight.grad.clone()

    assert math.isnan(GradientHealthMonitor(model).apply_gradient_clipping(1e-9))
    assert torch.equal(kept, model[2].weight.grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_gradients_of_any_dtype_and_sparse_ones_are_clipped(dtype: torch.dtype):
    model = nn.Sequential(nn.Embedding(5, 3, sparse=True), nn.Linear(3, 2)).to(dtype)
    (model(torch.tensor([[1, 2, 2]])).sum() * 3e3).backward()
    monitor = GradientHealthMonitor(model)
    before = monitor.apply_gradient_clipping(max_norm=1.0)

    assert 1e3 < before < math.inf
    assert monitor.check_gradients()["global_grad_norm"] == pytest.approx(1.0, rel=1e-2)


def given(**figures: Any) -> dict[str, Any]:
    """Stats as `check_gradients` gives them, with other figures."""
    return {**GradientHealthMonitor(backward()).check_gradients(), **figures}


def test_the_lines_read_as_in_the_guide(capsys: pytest.CaptureFixture[str]):
    stats = given(global_grad_norm=125.43, max_grad_norm=340.12, min_grad_norm=3.2e-08, mean_grad_norm=45.67)
    GradientHealthMonitor(backward()).log_statistics(stats, step=150)

    assert capsys.readouterr().out == (
        "Step 150 - Gradient Health: Global Norm=125.43, Max=340.12, Min=3.2e-08, Mean=45.67\n"
        "\n"
        "⚠️ Exploding gradients detected (norm=125.43)!\n"
        "   Consider: (1) Gradient clipping, (2) Reducing learning rate\n"
        "\n"
        "⚠️ Vanishing gradients detected (min norm=3.2e-08)!\n"
        "   Consider: (1) Using residual connections, (2) Changing activation functions\n"
    )


def test_trouble_is_told_when_it_begins_and_then_as_often_as_the_line(capsys: pytest.CaptureFixture[str]):
    monitor = GradientHealthMonitor(backward(), log_frequency=100)
    stats = given()
    for step in range(1, 250):
        monitor.log_statistics({**stats, "global_grad_norm": 1e3 if step >= 130 else 1.0}, step=step)
    lines = capsys.readouterr().out.splitlines()

    assert [int(m[1]) for line in lines if (m := re.match(r"Step (\d+) - Gradient Health", line))] == [100, 130, 200]
    assert sum("Exploding" in line for line in lines) == 2


def test_a_logger_is_anything_with_log_and_gets_the_names_that_are_charted():
    class Rows(list):
        def log(self, row: dict[str, float]) -> None:
            self.append(row)

    class Board(list):
        def add_scalar(self, name: str, value: float, step: int) -> None:
            self.append((name, value, step))

    rows, board = Rows(), Board()
    monitor = GradientHealthMonitor(backward(), log_frequency=10, enable_detailed_logging=True, logger=rows)
    stats = monitor.check_gradients()
    for step in range(3, 25):
        monitor.log_statistics(stats, step=step)
    monitor.log_statistics(step=30, logger=board)

    assert len(rows) == 22
    assert [i + 3 for i, row in enumerate(rows) if any(k.startswith("grad_layer/") for k in row)] == [3, 10, 20]
    assert {k for k in rows[0] if k.startswith("grad/")} == {
        "grad/global_norm", "grad/max_norm", "grad/min_norm", "grad/mean_norm", "grad/has_nan", "grad/has_inf"
    }  # fmt: skip
    assert rows[0]["grad/has_nan"] == 0
    assert {k for k in rows[0] if k.startswith("grad_layer/")} == {f"grad_layer/{n}" for n in norms(monitor.model)}
    assert ("grad/global_norm", rows[0]["grad/global_norm"], 30) in board
    with pytest.raises(TypeError, match="a logger has a method"):
        monitor.log_statistics(step=40, logger=object())


def test_sick_layers_are_named_and_frozen_absent_and_zero_ones_are_counted_apart():
    torch.manual_seed(0)
    model = nn.ModuleDict({name: nn.Linear(3, 3, bias=False) for name in ("tiny", "huge", "well", "dead", "unused", "frozen")})
    model["frozen"].weight.requires_grad_(False)
    x = torch.ones(2, 3)
    total = model["tiny"](x).sum() * 1e-9 + model["huge"](x).sum() * 1e4 + model["well"](x).sum() + model["dead"](x).sum() * 0
    (total + model["frozen"](x).sum()).backward()
    monitor = GradientHealthMonitor(model)
    flow = monitor.get_gradient_flow_summary()

    assert flow["layers_with_vanishing_grads"] == ["tiny.weight"]
    assert flow["layers_with_exploding_grads"] == ["huge.weight"]
    assert flow["layers_with_healthy_grads"] == ["well.weight"]
    assert flow["layers_with_zero_grads"] == ["dead.weight"]
    assert flow["layers_without_grads"] == ["unused.weight"]
    assert flow["frozen_layers"] == ["frozen.weight"]
    assert monitor.check_gradients()["min_grad_norm"] == pytest.approx(6e-9)  # nine elements of 2e-9
    assert len(monitor.recommendations()) == 2


def test_nan_and_inf_are_told_with_their_layers_and_overflow_is_neither(capsys: pytest.CaptureFixture[str]):
    model = backward()
    model[0].weight.grad[0, :2] = math.nan
    model[0].weight.grad[1, 0] = math.inf
    model[2].bias.grad[0] = math.inf
    monitor = GradientHealthMonitor(model)
    stats = monitor.check_gradients()
    monitor.log_statistics(stats, step=3)

    assert (stats["has_nan"], stats["has_inf"]) == (True, True)
    assert (stats["nan_layers"], stats["inf_layers"]) == (["0.weight"], ["0.weight", "2.bias"])
    assert (stats["nan_count"], stats["inf_count"]) == (2, 2)
    assert "CRITICAL: NaN in the gradients of 0.weight" in capsys.readouterr().out
    huge = backward()
    for p in huge.parameters():
        p.grad = torch.full_like(p, 1e20)
    stats = GradientHealthMonitor(huge).check_gradients()
    assert (stats["has_nan"], stats["has_inf"]) == (False, False)
    assert stats["global_grad_norm"] == pytest.approx(1e20 * math.sqrt(sum(p.numel() for p in huge.parameters())), rel=1e-5)


def test_a_model_may_grow_get_other_parameters_and_be_copied():
    model = nn.Sequential()
    monitor = GradientHealthMonitor(model)
    assert monitor.check_gradients()["global_grad_norm"] == 0.0
    model.append(nn.Linear(2, 1))
    model(torch.ones(1, 2)).sum().backward()
    first = monitor.check_gradients()["global_grad_norm"]
    other = copy.deepcopy(monitor)
    other.model(torch.tensor([[0.0, 0.0]])).sum().backward()
    model[0].weight = nn.Parameter(model[0].weight.detach().clone())
    model[0].weight.grad = torch.full((1, 2), 3.0)

    assert first == pytest.approx(math.sqrt(3))
    assert other.check_gradients()["global_grad_norm"] == pytest.approx(1.0)
    assert monitor.check_gradients()["global_grad_norm"] == pytest.approx(math.sqrt(19))


def test_layers_that_have_nothing_to_learn_yet_are_no_trouble():
    empty = nn.Identity()
    empty.weight = nn.Parameter(torch.zeros(0, 4))
    for layer in (nn.LazyLinear(1), empty, nn.ReLU()):
        stats = GradientHealthMonitor(layer).check_gradients()
        assert (stats["global_grad_norm"], stats["has_nan"], stats["recommendations"]) == (0.0, False, [])
        model = nn.Sequential(nn.Linear(6, 6), layer)
        monitor = GradientHealthMonitor(model)
        model(torch.randn(16, 6)).sum().backward()
        stats = monitor.check_gradients()
        assert stats["global_grad_norm"] == pytest.approx(math.hypot(*norms(model).values()), rel=1e-6)
        assert stats["layers_with_zero_grads"] == []
    empty.weight.ds_id = 0
    with pytest.raises(ValueError, match="DeepSpeed ZeRO-3 keeps gradients out of sight"):
        GradientHealthMonitor(empty).check_gradients()


def test_what_cannot_be_meant_is_refused():
    for option in ("grad_clip_threshold", "vanishing_threshold", "exploding_threshold", "log_frequency"):
        with pytest.raises(ValueError, match=f"{option} must be a number above 0"):
            GradientHealthMonitor(backward(), **{option: 0})
