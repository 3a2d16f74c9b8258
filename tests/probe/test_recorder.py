"""Records against slow twins; what may go wrong in a probe never reaches training."""

from __future__ import annotations

import copy
import io
import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")

from torch import nn  # noqa: E402

from smart_monitor.names import MAX_METRICS  # noqa: E402
from smart_monitor.probe import CannotMeasure, Gradients, Limits, Probe, Schedule  # noqa: E402
from smart_monitor.probe.direction import Direction  # noqa: E402
from smart_monitor.probe.parameters import held_parameters  # noqa: E402
from smart_monitor.probe.records import Spread  # noqa: E402
from smart_monitor.probe.rewards import RewardPairs  # noqa: E402
from smart_monitor.stats.calibration import calibration  # noqa: E402
from tests.probe.training import ALL, flat, fresh, records, train  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("width", [32, 1100])  # compared whole, and by sketch and sample
def test_direction_update_and_weights_are_those_of_the_slow_twin(tmp_path: Path, width: int) -> None:
    gradients, weights = [], []

    def see(model: nn.Module) -> None:
        gradients.append(flat(p.grad for p in model.parameters()))
        weights.append(flat(model.parameters()))

    model = fresh(width=width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with Probe(model, optimizer, tmp_path, schedule=ALL) as probe:
        train(model, probe, see=see, optimizer=optimizer)
    found = records(tmp_path)
    near = 1e-5 if width == 32 else 0.02
    for at in range(1, len(found)):
        cosine = float(torch.nn.functional.cosine_similarity(gradients[at], gradients[at - 1], dim=0))
        assert found[at]["grad_cosine"] == pytest.approx(cosine, abs=near)
        ratio = float((weights[at] - weights[at - 1]).norm() / weights[at - 1].norm())
        assert found[at]["update_ratio"] == pytest.approx(ratio, rel=max(near, 1e-4))
        stability = float(torch.nn.functional.cosine_similarity(weights[at], weights[at - 1], dim=0))
        assert found[at]["weight_stability"] == pytest.approx(stability, abs=near)
    assert "grad_cosine" not in found[0]
    for record, w in zip(found, weights, strict=True):
        twin = [w.norm(), w.mean(), w.std(correction=0), w.min(), w.max()]
        names = ("weight_norm", "weight/mean", "weight/std", "weight/min", "weight/max")
        assert [record[n] for n in names] == pytest.approx([float(t) for t in twin], rel=1e-4, abs=1e-7)
    norms = [float(g.norm()) for g in gradients]
    assert found[-1]["grad_norm_mean"] == pytest.approx(sum(norms) / len(norms), rel=1e-5)
    assert found[-1]["grad_norm_variance"] == pytest.approx(float(torch.tensor(norms).var(correction=0)), rel=1e-3)


def test_mean_and_variance_of_each_layer_over_time_are_those_of_the_slow_twin(tmp_path: Path) -> None:
    steps: list[dict[str, float]] = []

    def see(model: nn.Module) -> None:
        if len(steps) % 5 == 0:
            model[5].bias.grad = None  # which is no norm of zero
        if len(steps) == 59:  # the last one, since the weights do not survive it
            model[3].weight.grad[0, 0] = math.inf
        steps.append({name: float(p.grad.double().norm()) for name, p in model.named_parameters() if p.grad is not None})

    model = fresh()
    with Probe(model, None, tmp_path, schedule=Schedule(spread=60)) as probe:
        train(model, probe, 60, see=see)
    *others, found = records(tmp_path)
    assert not any(name.startswith("grad_layer_") for record in others for name in record)
    for layer in steps[1]:
        norms = torch.tensor([s[layer] for s in steps[-50:] if math.isfinite(s.get(layer, math.nan))], dtype=torch.float64)
        assert len(norms) == {"5.bias": 40, "3.weight": 49}.get(layer, 50)
        assert found[f"grad_layer_mean/{layer}"] == pytest.approx(float(norms.mean()), rel=1e-5)
        assert found[f"grad_layer_variance/{layer}"] == pytest.approx(float(norms.var(correction=0)), rel=1e-4)


def test_layers_over_time_never_make_a_record_too_large() -> None:
    names = [f"blocks.{b}.{m}.weight" for b in range(20) for m in ("query", "key", "value", "out", "up", "down")]
    spread = Spread(names)
    for scale in (1.0, 3.0):
        spread.look(Gradients(dict.fromkeys(names, scale)))
    found = spread.figures()
    assert len(found) + len(names) < MAX_METRICS - 128
    assert found["grad_layer_mean/blocks.7"] == pytest.approx(2 * math.sqrt(6))
    assert found["grad_layer_variance/blocks.7"] == pytest.approx(6.0)


def test_the_sketch_of_a_second_kind_of_model_is_near_too() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Embedding(3000, 128), nn.Conv1d(40, 64, 3), nn.Flatten(), nn.Linear(64 * 126, 100))
    direction = Direction(held_parameters(model), exact=False)
    truth, near = [], []
    before: torch.Tensor | None = None
    for _ in range(6):
        model.zero_grad()
        model(torch.randint(0, 3000, (4, 40))).square().mean().backward()
        now = flat(p.grad for p in model.parameters())
        sums = direction.look()
        if before is not None and sums is not None:
            truth.append(float(torch.nn.functional.cosine_similarity(now, before, dim=0)))
            near.append(direction.cosines(sums.tolist())[0])
        before = now
    assert near == pytest.approx(truth, abs=0.01)


def test_weights_that_turn_back_have_the_layers_named(tmp_path: Path) -> None:
    model = fresh()
    model[2].p = 0.0
    probe = Probe(model, None, tmp_path, schedule=ALL)
    x = torch.randn(16, 8)
    for at in range(4):
        model.zero_grad()
        ((-1) ** at * model(x).sum()).backward()
        probe.step()
    probe.close()
    last = records(tmp_path)[-1]
    assert last["grad_cosine"] == pytest.approx(-1.0)
    shares = {n: v for n, v in last.items() if n.startswith("grad_cosine_share/")}
    assert sum(shares.values()) == pytest.approx(-1.0, abs=1e-3)


def test_a_model_that_cannot_be_measured_is_refused_in_one_sentence(tmp_path: Path) -> None:
    model = fresh()
    model[0].weight.ds_id = 0
    with pytest.raises(CannotMeasure, match="DeepSpeed ZeRO-3 keeps gradients out of sight"):
        Probe(model, None, tmp_path)
    with pytest.raises(ValueError, match="layers is a number of steps, not -1"):
        Schedule(layers=-1)


# ------------------------------------------------------------------------------ training is never harmed


def digest(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@pytest.fixture(scope="module")
def bare() -> list[torch.Tensor]:
    """The weights after the same training without a probe."""
    return digest(train(fresh(), None, 30))


class Refuses:
    def log(self, figures: dict[str, float]) -> None:
        raise ConnectionError("no network")


def nothing(probe: Probe) -> None:
    """All is well."""


def crashes(probe: Probe) -> None:
    probe._usual = None  # type: ignore[assignment]


def writer_dies(probe: Probe) -> None:
    probe.writer._waiting = None  # type: ignore[assignment]


@pytest.mark.parametrize("fault", [nothing, crashes, writer_dies])
def test_training_ends_with_the_very_weights_of_a_run_without_a_probe(
    tmp_path: Path, bare: list[torch.Tensor], fault: Callable[[Probe], None], caplog: pytest.LogCaptureFixture
) -> None:
    model = fresh()
    probe = Probe(model, None, tmp_path, schedule=ALL, loggers=[Refuses()])
    fault(probe)
    with caplog.at_level(logging.WARNING, logger="smart_monitor.probe"):
        train(model, probe, 30)
        if fault is writer_dies:
            probe.writer._waiting = deque()
        probe.close()
    assert all(torch.equal(a, b) for a, b in zip(digest(model), bare, strict=True))
    said = [r.message for r in caplog.records]
    assert (fault is nothing) == (probe.trouble == "")
    assert sum("switched itself off" in line for line in said) == (0 if fault is nothing else 1)
    assert sum("no network" in line for line in said) == (1 if fault is nothing else 0)


@pytest.mark.parametrize("place", ["/dev/full", "/proc/nowhere", "file"])
def test_a_full_or_read_only_disk_costs_records_and_nothing_else(tmp_path: Path, bare: list[torch.Tensor], place: str) -> None:
    if place == "file":
        (tmp_path / "in_the_way").write_text("")
        place = str(tmp_path / "in_the_way")
    model = fresh()
    probe = Probe(model, None, place, schedule=ALL, status=True)
    began = time.monotonic()
    train(model, probe, 30)
    assert probe.on
    probe.close()
    assert probe.writer.trouble
    assert all(torch.equal(a, b) for a, b in zip(digest(model), bare, strict=True))
    assert time.monotonic() - began < 60


def test_a_step_without_any_gradient_is_said_once_and_is_no_norm_of_zero(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Probe(fresh(), None, tmp_path) as probe:
        for _ in range(3):
            probe.step(1.0)
        probe.step(1.0, step="seven")  # type: ignore[arg-type]  # nonsense is an error of ours, too, not of training
    found = records(tmp_path)
    assert [r.get("absent_layers") for r in found[:3]] == [6] * 3
    assert all("grad_norm" not in r for r in found)
    assert sum("sees no gradient" in r.message for r in caplog.records) == 1
    assert "ValueError" in found[3]["probe_off"]


def test_a_model_with_a_probe_is_still_copied_and_saved(tmp_path: Path) -> None:
    model = fresh()
    with Probe(model, None, tmp_path):
        train(copy.deepcopy(model), None, 1)
        saved = io.BytesIO()
        torch.save(model, saved)
        saved.seek(0)
        train(torch.load(saved, weights_only=False), None, 1)
    assert not model._forward_pre_hooks


@pytest.mark.filterwarnings("ignore:.*script_method")
def test_a_compiled_model_is_measured_outside_of_what_is_compiled(tmp_path: Path) -> None:
    model = fresh()
    compiled = torch.compile(model, backend="eager")
    with Probe(compiled, None, tmp_path) as probe:
        train(compiled, probe, 3)
    found = records(tmp_path)
    assert probe.trouble == ""
    assert "grad_layer/0.weight" in found[0]
    assert all(math.isfinite(r["grad_norm"]) for r in found)


def test_the_first_step_that_is_not_finite_is_kept_and_no_more(tmp_path: Path) -> None:
    model = fresh()
    with Probe(model, None, tmp_path, capture=Limits(count=5)) as probe:
        train(model, probe, 3)
        for step in range(3):
            model.zero_grad()
            model(torch.randn(2, 8)).sum().backward()
            model[3].weight.grad[0, 0] = math.inf
            probe.step(1.0, step=10 + step, batch=torch.ones(2, 8))
    (line,) = (tmp_path / "anomalies/anomalies_rank_0.jsonl").read_text().splitlines()
    kept = json.loads(line)
    assert (kept["step"], kept["reason"], kept["grad_norm"], kept["loss"]) == (10, "inf", "Infinity", 1.0)


def test_loggers_get_the_figures_under_the_names_people_chart(tmp_path: Path) -> None:
    class Plain:
        def __init__(self) -> None:
            self.rows: list[dict[str, float]] = []

        def log(self, figures: dict[str, float]) -> None:
            self.rows.append(figures)

    class Board:
        def __init__(self) -> None:
            self.points: list[tuple[str, float, int]] = []

        def add_scalar(self, name: str, value: float, step: int) -> None:
            self.points.append((name, value, step))

    plain, board, model = Plain(), Board(), fresh()
    with Probe(model, None, tmp_path, loggers=[plain, board], status=True) as probe:
        train(model, probe, 3)
    wanted = {"grad/global_norm", "grad/max_norm", "grad/min_norm", "grad/has_nan", "grad/has_inf", "grad_layer/0.weight"}
    assert wanted <= plain.rows[0].keys()
    assert wanted <= {name for name, _, _ in board.points}
    assert {1, 2, 3} == {step for _, _, step in board.points}
    status = json.loads((tmp_path / "status/training_status.json").read_text())
    assert (status["status"], status["current_step"]) == ("training", 3)


def test_calibration_of_pairs_is_that_of_the_slow_twin() -> None:
    torch.manual_seed(0)
    chosen, rejected = torch.randn(600) + 1, torch.randn(600)
    chosen[:5], chosen[5] = rejected[:5], rejected[5] + 50  # ties, and one that is sure beyond any doubt
    pairs = RewardPairs()
    pairs.add(chosen[:300], rejected[:300])
    pairs.add(chosen[300:], rejected[300:])
    margins = pairs.taken()
    assert margins is not None
    found = pairs.figures(margins)
    slow = calibration((chosen - rejected).tolist())
    assert found["calibration_error"] == pytest.approx(slow.error, rel=1e-6)
    assert found["brier_score"] == pytest.approx(slow.brier, rel=1e-6)
    assert found["pair_accuracy"] == pytest.approx(slow.accuracy)
    random = torch.Generator().manual_seed(1)
    errors = []
    for _ in range(300):  # the model is right as often as it is sure
        right = torch.rand(600, generator=random) < torch.sigmoid((chosen - rejected).abs())
        errors.append(calibration((chosen - rejected).abs().where(right, -(chosen - rejected).abs()).tolist()).error)
    assert found["calibration_error_null"] == pytest.approx(sorted(errors)[296], rel=0.25)
