"""Norms and counts against slow twins in double precision, and where single precision lies."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")

from torch import nn  # noqa: E402

from smart_monitor.probe import GradientMeter, measure_gradients  # noqa: E402
from smart_monitor.probe.parameters import layer_names  # noqa: E402

pytestmark = pytest.mark.torch


def trained(dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Module:
    """A small model after one backward pass."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3)).to(dtype)
    model(torch.randn(8, 16, dtype=dtype)).square().mean().backward()
    return model


def twin(model: nn.Module) -> dict[str, float]:
    """Every norm, one tensor after the other, in double precision."""
    return {name: math.hypot(*p.grad.double().flatten().tolist()) for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_norms_are_those_of_the_slow_twin(dtype: torch.dtype) -> None:
    model = trained(dtype)
    found, slow = measure_gradients(model), twin(model)
    assert found.norms == pytest.approx(slow, rel=1e-6)
    assert found.total == pytest.approx(math.hypot(*slow.values()), rel=1e-6)
    assert found.largest == pytest.approx(max(slow.values()), rel=1e-6)
    assert found.smallest == pytest.approx(min(slow.values()), rel=1e-6)
    assert found.mean == pytest.approx(sum(slow.values()) / len(slow), rel=1e-6)
    assert not found.has_nan
    assert not found.has_inf


@pytest.mark.parametrize(("shift", "near"), [(0.0, 1e-7), (5.0, 2e-5)])  # equal summands round alike
def test_a_tensor_of_33_million_elements_is_summed_right(shift: float, near: float) -> None:
    model = nn.Module()
    model.weight = nn.Parameter(torch.empty(33_554_433))
    model.weight.grad = torch.randn(33_554_433, generator=torch.Generator().manual_seed(0)) * 0.1 + shift
    exact = float(torch.linalg.vector_norm(model.weight.grad, dtype=torch.float64))
    assert measure_gradients(model).total == pytest.approx(exact, rel=near)
    model.weight.grad[-1] = math.nan
    assert {"weight": 1} == measure_gradients(model).nan


@pytest.mark.parametrize(("dtype", "faint"), [(torch.float32, -1e-25), (torch.bfloat16, 1e-30), (torch.float64, 1e-200)])
def test_a_faint_gradient_is_none_of_zero_though_its_squares_are_below_its_precision(dtype: torch.dtype, faint: float) -> None:
    model = trained(dtype)
    layers = [m for m in model if isinstance(m, nn.Linear)]
    layers[0].weight.grad.fill_(faint)
    layers[1].weight.grad.zero_()
    found = measure_gradients(model)
    assert found.norms == pytest.approx(twin(model), rel=1e-6, abs=0)
    assert found.zero == ("2.weight",)


def test_half_precision_whose_norm_exceeds_its_range_is_no_overflow() -> None:
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(100, dtype=torch.float16))
    model.weight.grad = torch.full((100,), 60000.0, dtype=torch.float16)
    found = measure_gradients(model)
    assert found.total == pytest.approx(float(model.weight.grad[0]) * 10, rel=1e-6)
    assert found.overflow == ()


def test_a_norm_whose_square_overflows_double_precision_is_the_right_one() -> None:
    model = nn.Linear(100, 1, bias=False, dtype=torch.float64)
    model.weight.grad = torch.full((1, 100), 1e200, dtype=torch.float64)
    found = measure_gradients(model)
    assert found.total == pytest.approx(1e201)
    assert found.overflow == ("weight",)


def test_overflow_nan_and_inf_are_told_apart_and_counted() -> None:
    model = trained()
    layers = [m for m in model if isinstance(m, nn.Linear)]
    layers[0].weight.grad.fill_(1e20)
    layers[1].weight.grad[0, :3] = math.nan
    layers[1].weight.grad[1, :2] = math.inf
    layers[2].bias.grad[0] = -math.inf
    found = measure_gradients(model)
    assert found.overflow == ("0.weight",)
    assert found.norms["0.weight"] == pytest.approx(1e20 * math.sqrt(16 * 64), rel=1e-6)
    assert {"2.weight": 3} == found.nan
    assert {"2.weight": 2, "4.bias": 1} == found.inf
    assert math.isnan(found.total)
    assert math.isfinite(found.largest)
    later = GradientMeter(model).start().result()  # as on a device whose gradients are gone by then
    assert not later.counted
    assert later.has_nan
    assert later.has_inf


def test_zero_absent_and_frozen_are_told_apart() -> None:
    model = trained()
    model[0].weight.grad.zero_()
    model[0].bias.grad = None
    model[2].weight.requires_grad_(False)
    found = measure_gradients(model)
    assert (found.zero, found.absent, found.frozen) == (("0.weight",), ("0.bias",), ("2.weight",))
    assert found.smallest > 0


def test_sparse_and_complex_gradients_have_norms() -> None:
    model = nn.Module()
    model.table = nn.Embedding(10, 4, sparse=True)
    model.wave = nn.Parameter(torch.zeros(3, dtype=torch.complex64))
    (model.table(torch.tensor([1, 1, 2])).sum() + (model.wave * (3 + 4j)).real.sum()).backward()
    found = measure_gradients(model)
    assert {"table.weight": pytest.approx(math.sqrt(4 * 4 + 4 * 1)), "wave": pytest.approx(5 * math.sqrt(3))} == found.norms


def test_the_loss_scale_is_taken_out() -> None:
    model = trained()
    plain = measure_gradients(model)
    for p in model.parameters():
        p.grad *= 1024
    assert GradientMeter(model).measure(torch.tensor(1024.0)).norms == pytest.approx(dict(plain.norms), rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*script_method")  # torch's own, when its compiler is first imported
def test_names_are_those_of_the_author_through_compile_and_checkpointing() -> None:
    model = trained()
    assert list(measure_gradients(torch.compile(model)).norms) == [n for n, _ in model.named_parameters()]


def test_more_tensors_than_a_record_holds_are_told_by_their_modules() -> None:
    names = [f"blocks.{b}.{m}.{p}" for b in range(50) for m in ("attn", "mlp", "norm") for p in ("weight", "bias")]
    assert layer_names(names) == [n.rpartition(".")[0] for n in names]
    assert set(layer_names(names, 60)) == {f"blocks.{b}" for b in range(50)}
    assert set(layer_names(names, 3)) == {"blocks"}
    assert layer_names(["a", "b"], 1) == ["all", "all"]
    assert layer_names(names[:6]) == names[:6]


def test_a_model_without_parameters_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="has no parameters"):
        GradientMeter(nn.ReLU())
