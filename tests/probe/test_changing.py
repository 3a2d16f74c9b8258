"""Models that change while they are trained (parts unfrozen, layers added), and those that are no ordinary ones."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")

from torch import nn  # noqa: E402

from smart_monitor.probe import CannotMeasure, MetricsCollector, Probe, measure_gradients  # noqa: E402
from smart_monitor.probe.measuring import LOOK_AGAIN, Measuring  # noqa: E402
from tests.probe.training import ALL, flat, fresh, records, train  # noqa: E402

pytestmark = pytest.mark.torch


def test_what_is_unfrozen_or_added_in_the_middle_of_a_run_is_measured_as_well(tmp_path: Path) -> None:
    model, seen = fresh(), []
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)

    def see(model: nn.Sequential) -> None:
        seen.append(flat(p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()))
        if len(seen) == 3:
            model[0].requires_grad_(True)
            model.append(nn.Linear(1, 1))
            optimizer.add_param_group({"params": model[6].parameters(), "lr": 0.5})

    with Probe(model, optimizer, tmp_path, schedule=ALL) as probe:
        train(model, probe, 2 * LOOK_AGAIN, see=see, optimizer=optimizer)
    found = records(tmp_path)
    for at in range(LOOK_AGAIN, 2 * LOOK_AGAIN):
        before, now, record = seen[at - 1], seen[at], found[at]
        assert record["grad_norm"] == pytest.approx(float(now.norm()), rel=1e-5)
        assert record["grad_cosine"] == pytest.approx(float(torch.nn.functional.cosine_similarity(now, before, dim=0)), abs=1e-5)
        assert record["grad_layer/6.weight"] > 0
        assert record["frozen_layers"] == record["stopped_layers"] == 0
    assert found[-1]["lr_group/1"] == 0.5


def test_who_freezes_parts_in_turn_does_not_pay_for_new_meters_again_and_again() -> None:
    model = fresh()
    measuring = Measuring(model, ALL, exact=None, in_backward=False, rank=0, every_rank=False)
    begun = 0
    for step in range(1000):
        if step % LOOK_AGAIN == LOOK_AGAIN - 1:
            model[0].requires_grad_(not model[0].weight.requires_grad)
        if measuring.outdated():
            measuring.begin()
            begun += 1
    assert begun < 1000 / LOOK_AGAIN / 2


def test_a_parameter_without_elements_is_not_dead(tmp_path: Path) -> None:
    model = fresh()
    model[0].register_parameter("nothing", nn.Parameter(torch.zeros(0, 4)))

    def see(model: nn.Module) -> None:
        model[0].nothing.grad = torch.zeros(0, 4)

    with Probe(model, None, tmp_path, schedule=ALL) as probe:
        train(model, probe, see=see)
    assert {record["dead_layers"] for record in records(tmp_path)} == {0}
    assert measure_gradients(model).zero == ()


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.float8_e4m3fn])
def test_quantised_weights_of_a_frozen_base_are_codes_and_no_weights(tmp_path: Path, kind: torch.dtype) -> None:
    model = fresh()
    model[0].register_parameter("base", nn.Parameter(torch.ones(4000).to(kind), requires_grad=False))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    collector, weights, collected = MetricsCollector(), [], []

    def see(model: nn.Module) -> None:
        weights.append(float(flat(p for p in model.parameters() if p.requires_grad).norm()))
        collected.append(collector.collect_step_metrics(model, 1, 1.0)["weight_norm"])

    with Probe(model, optimizer, tmp_path, schedule=ALL) as probe:
        train(model, probe, see=see, optimizer=optimizer)
    found = records(tmp_path)
    assert [record["weight_norm"] for record in found] == pytest.approx(weights, rel=1e-5)
    assert collected == pytest.approx(weights, rel=1e-5)
    assert {record["frozen_layers"] for record in found} == {1}


@pytest.mark.parametrize("exact", [True, False])
def test_the_default_device_and_dtype_of_the_training_are_nothing_to_the_probe(tmp_path: Path, exact: bool) -> None:
    """A device on which nothing can be read stands in for a GPU, and a dtype of three digits."""
    model = fresh()
    x = torch.randn(4, 8)
    probe = collector = None
    try:
        torch.set_default_dtype(torch.bfloat16)
        torch.set_default_device("meta")
        probe, collector = Probe(model, None, tmp_path, schedule=ALL, exact=exact), MetricsCollector()
        for _ in range(10):
            model(x).sum().backward()
            collector.collect_step_metrics(model, 1, 1.0)
            probe.pairs(x[:, 0].repeat(16), x[:, 1].repeat(16))
            probe.step(1.0)
        probe.close()
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    found = records(tmp_path)
    assert probe.trouble == ""
    assert len(found) == 10
    assert found[-1]["grad_cosine"] == pytest.approx(1.0, abs=1e-4)
    assert found[-1]["calibration_pairs"] > 256
    assert "grad_layer_mean/0.weight" in found[-1]


@pytest.mark.parametrize("kind", ["meta", "lazy"])
def test_parameters_without_values_are_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    model = nn.Linear(2, 2, device="meta") if kind == "meta" else nn.LazyLinear(2)
    with pytest.raises(CannotMeasure, match="parameters without values"):
        Probe(model, None, tmp_path)


def test_a_loss_that_counts_something_is_recorded_as_a_number(tmp_path: Path) -> None:
    model = fresh()
    with Probe(model, None, tmp_path) as probe:
        probe.step(torch.tensor(3))
        assert probe.on
    assert records(tmp_path)[0]["loss"] == 3.0
