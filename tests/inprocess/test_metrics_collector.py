"""The figures of a step, the cosine of two gradients, what activations do."""

from __future__ import annotations

import math
import pickle

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")

import numpy as np  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from smart_monitor.probe import ActivationMonitor, MetricsCollector, calculate_gradient_cosine_similarity  # noqa: E402

pytestmark = pytest.mark.torch


def test_the_cosine_is_that_of_the_formula_in_arrays_tensors_and_mappings():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(4, 5)), generator.normal(size=(4, 5))
    expected = float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))

    assert calculate_gradient_cosine_similarity(a, b) == pytest.approx(expected)
    assert calculate_gradient_cosine_similarity(torch.tensor(a), torch.tensor(b)) == pytest.approx(expected)
    assert calculate_gradient_cosine_similarity(a.tolist(), b.tolist()) == pytest.approx(expected)
    pairs = [{"x": torch.tensor(v[:2]), "y": torch.tensor(v[2:])} for v in (a, b)]
    assert calculate_gradient_cosine_similarity(*pairs) == pytest.approx(expected)
    assert calculate_gradient_cosine_similarity(a, a) == pytest.approx(1.0)
    assert calculate_gradient_cosine_similarity(a, -a) == pytest.approx(-1.0)


@settings(max_examples=60, deadline=None)
@given(*[st.lists(st.floats(-1e300, 1e300), min_size=4, max_size=4)] * 2, st.floats(1e-3, 1e3))
def test_the_cosine_is_bounded_symmetric_and_blind_to_scale(a: list[float], b: list[float], factor: float):
    found = calculate_gradient_cosine_similarity(a, b)

    assert -1 <= found <= 1
    assert found == pytest.approx(calculate_gradient_cosine_similarity(b, a), abs=1e-12)
    scaled = [v / 1e4 * factor for v in a]
    if all(v == 0 or abs(v) > 1e-290 for v in scaled):
        assert found == pytest.approx(calculate_gradient_cosine_similarity(scaled, b), abs=1e-9)


def test_zero_is_zero_and_nothing_overflows_or_is_taken_for_zero():
    one = np.array([1e-200, 1e-200])

    assert calculate_gradient_cosine_similarity(np.zeros(3), np.ones(3)) == 0.0
    assert calculate_gradient_cosine_similarity(one, one) == pytest.approx(1.0)
    assert calculate_gradient_cosine_similarity(np.array([1e200, 0]), np.array([-1e300, 0])) == -1.0
    assert math.isnan(calculate_gradient_cosine_similarity([math.nan, 1.0], [1.0, 1.0]))
    with pytest.raises(ValueError, match="of one size, not 2 and 3"):
        calculate_gradient_cosine_similarity(np.ones(2), np.ones(3))


def test_the_metrics_of_a_step_are_those_written_out():
    torch.manual_seed(0)
    model, collector = nn.Linear(4, 2), MetricsCollector()
    assert collector.calculate_gradient_cosine_similarity() == 0.0
    gradients, weights, found = [], [], {}
    for step in range(3):
        model.zero_grad()
        loss = model(torch.randn(8, 4)).square().mean()
        loss.backward()
        gradients.append(torch.cat([p.grad.reshape(-1) for p in model.parameters()]))
        weights.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
        found = collector.collect_step_metrics(model, step, loss.item())
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.1 * p.grad
    cosine = float(torch.nn.functional.cosine_similarity(gradients[2], gradients[1], dim=0))

    assert (found["step"], found["loss"]) == (2, loss.item())
    assert found["gradient_norm"] == pytest.approx(float(gradients[2].norm()), rel=1e-5)
    assert found["gradient_cosine_similarity"] == pytest.approx(cosine, abs=1e-5)
    assert collector.calculate_gradient_cosine_similarity() == found["gradient_cosine_similarity"]
    assert found["weight_norm"] == pytest.approx(float(weights[2].norm()), rel=1e-5)
    assert found["update_ratio"] == pytest.approx(float((weights[2] - weights[1]).norm() / weights[1].norm()), rel=1e-4)
    assert 0.9 < found["weight_stability"] < 1
    assert (found["has_nan"], found["has_inf"]) == (False, False)
    assert found["host_memory_mb"] > 0 and found["step_time"] >= 0


def test_gradients_given_by_name_take_the_place_of_the_models():
    model, collector = nn.Linear(2, 1, bias=False), MetricsCollector()
    first = collector.collect_step_metrics(model, 0, 1.0, {"weight": torch.tensor([3.0, 4.0])})
    second = collector.collect_step_metrics(model, 1, 1.0, {"weight": torch.tensor([-3.0, -4.0])})
    bad = collector.collect_step_metrics(model, 2, 1.0, {"weight": torch.tensor([math.nan, 1.0])})

    assert first["gradient_norm"] == 5.0 and "gradient_cosine_similarity" not in first
    assert second["gradient_cosine_similarity"] == pytest.approx(-1.0)
    assert bad["has_nan"] and not bad["has_inf"]


def test_gradients_may_be_given_as_people_hold_them_absent_sparse_complex_or_as_arrays():
    model, whole = nn.Linear(2, 2), torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    for given_ in (
        {"a": whole, "b": None}, {"a": whole.to_sparse()}, {"a": whole.numpy()}, {"a": torch.complex(whole[0], whole[1])},
    ):  # fmt: skip
        collector = MetricsCollector()
        collector.collect_step_metrics(model, 1, 1.0, given_)
        found = collector.collect_step_metrics(model, 2, 1.0, given_)
        assert found["gradient_norm"] == pytest.approx(5.0)
        assert found["gradient_cosine_similarity"] == pytest.approx(1.0)
    assert calculate_gradient_cosine_similarity(whole.to_sparse(), whole) == pytest.approx(1.0)
    turned = torch.tensor([1j, 0j])
    assert calculate_gradient_cosine_similarity(turned, turned) == pytest.approx(1.0)
    assert calculate_gradient_cosine_similarity([1.0, 1e-12], [0.0, 1.0]) == pytest.approx(1e-12)


def test_dead_and_saturated_units_are_counted():
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2), nn.Sigmoid())
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.copy_(torch.tensor([-1e3, -1e3, -1e3, 1.0]))
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([50.0, 0.0]))
    with ActivationMonitor(model) as monitor:
        model(torch.rand(5, 2))
        model(torch.rand(5, 2))
    model(torch.full((5, 2), 1e9))  # not looked at any more
    found = monitor.statistics()

    assert found["1"]["dead_fraction"] == 0.75
    assert found["1"]["zero_fraction"] == 0.75
    assert (found["3"]["saturated_fraction"], found["3"]["dead_fraction"]) == (0.5, 0.0)
    assert monitor.metrics() == {"dead_fraction": 0.75, "saturated_fraction": 0.5}
    assert not model[1]._forward_hooks


def test_activations_that_are_no_numbers_and_images_are_counted_by_channel():
    model = nn.Sequential(nn.ReLU())
    images = torch.rand(2, 3, 4, 4) + 0.1
    images[:, 1] = -1.0
    images[0, 0, 0, 0] = math.nan
    with ActivationMonitor(model) as monitor:
        model(images)

    assert monitor.statistics()["0"]["dead_fraction"] == pytest.approx(1 / 3)
    assert monitor.statistics()["0"]["nan"] == 1
    assert ActivationMonitor(model).metrics() == {}
    with pytest.raises(ValueError, match="no module goes by 'relu'"):
        ActivationMonitor(model, ["relu"])


@pytest.mark.parametrize(
    ("layer", "values", "saturated"),
    [
        (nn.Hardtanh(-3, 3), [5.0, -9.0], 1.0), (nn.Hardtanh(-3, 3), [1.0, -1.0], 0.0), (nn.ReLU6(), [7.0, 9.0], 1.0),
        (nn.ReLU6(), [-7.0, 0.0], 0.0), (nn.Tanh(), [50.0, -50.0], 1.0),
    ],
)  # fmt: skip
def test_a_unit_is_saturated_at_the_bounds_of_its_own_function(layer: nn.Module, values: list[float], saturated: float):
    model = nn.Sequential(layer)
    with ActivationMonitor(model) as monitor:
        model(torch.tensor(values)[:, None])
    assert monitor.statistics()["0"]["saturated_fraction"] == saturated


def test_a_module_can_be_pickled_while_it_is_watched():
    model = nn.Sequential(nn.ReLU())
    with ActivationMonitor(model):
        assert pickle.loads(pickle.dumps(model))(torch.ones(1)) == 1.0
