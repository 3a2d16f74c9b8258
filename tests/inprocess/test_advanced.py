"""AdvancedAnomalyDetector in real small trainings: what is planted is told once and named, a healthy run is silent."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")

from torch import nn  # noqa: E402

from smart_monitor.config import Settings  # noqa: E402
from smart_monitor.engine import Engine  # noqa: E402
from smart_monitor.inprocess.alerts import AlertFile  # noqa: E402
from smart_monitor.model import Record  # noqa: E402
from smart_monitor.probe import (  # noqa: E402
    AdvancedAnomalyDetector,
    AnomalyDetectionHook,
    BatchSizeImpactAnalyzer,
    ConvergenceTracker,
    GradientAnomalyDetector,
    LearningRateAnomalyDetector,
    ProfilerHooks,
)
from smart_monitor.registry import rule_classes  # noqa: E402
from tests.inprocess.training import network, train  # noqa: E402

pytestmark = pytest.mark.torch


def kinds(alerts: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(a["step"], a["kind"]) for a in alerts]


def test_the_basic_loop_of_a_healthy_run_is_silent(tmp_path: Path):
    detector = AdvancedAnomalyDetector(output_dir=str(tmp_path / "anomaly_results"))

    assert train(detector.analyze_training_step, steps=150) == []


def scaled(at: int, factor: float, until: int = 10**9) -> Any:
    def fault(step: int, model: nn.Module, optimizer: Any) -> None:
        if at <= step < until:
            for p in model.parameters():
                p.grad.mul_(factor)

    return fault


def test_an_explosion_is_critical_and_names_the_layer(tmp_path: Path):
    def fault(step: int, model: nn.Module, optimizer: Any) -> None:
        if step == 40:
            model[2].weight.grad.mul_(1e4)

    detector = AdvancedAnomalyDetector(tmp_path)
    first = train(detector.analyze_training_step, fault, steps=45)[0]

    assert (first["step"], first["kind"], first["category"]) == (40, "gradient_explosion", "gradient")
    assert (first["severity"], first["level"]) == ("critical", "warning")
    assert first["metadata"]["layers"][0] == "2.weight" and "2.weight" in first["message"]
    assert first["value"] > first["threshold"]
    line = json.loads((tmp_path / "alerts.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert {k: line[k] for k in ("schema", "step", "kind", "severity", "level")} == {
        "schema": 1, "step": 40, "kind": "gradient_explosion", "severity": "critical", "level": "warning"
    }  # fmt: skip


def test_vanishing_gradients_are_told_once_while_they_last(tmp_path: Path):
    fault = scaled(40, 1e-9, until=60)
    once = train(AdvancedAnomalyDetector(tmp_path).analyze_training_step, fault, steps=65)
    every = train(AdvancedAnomalyDetector(tmp_path, repeat=True).analyze_training_step, fault, steps=65)

    assert kinds([a for a in once if a["category"] == "gradient"]) == [(40, "gradient_vanishing")]
    assert [a["severity"] for a in once] == ["high"]
    assert [a["step"] for a in every if a["kind"] == "gradient_vanishing"] == list(range(40, 60))


def test_a_nan_in_one_layer_is_named_and_the_batch_is_kept(tmp_path: Path):
    detector = AdvancedAnomalyDetector(tmp_path)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batch = {"x": torch.randn(4, 8), "y": torch.randn(4, 1)}
    found: list[dict[str, Any]] = []
    for step in range(5):
        loss = (model(batch["x"]) - batch["y"]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if step == 3:
            model[0].bias.grad[2] = math.nan
        found = detector.analyze_training_step(model, optimizer, loss, 4, step=step, batch=batch)
        if found:
            break
    assert kinds(found) == [(3, "nan")]
    assert found[0]["metadata"]["layers"] == ["0.bias"]
    assert found[0]["metadata"]["nan_elements"] == 1
    assert detector.flush()
    (folder,) = (tmp_path / "anomalies" / "data").iterdir()
    assert {f.name for f in folder.iterdir()} == {"x.safetensors", "y.safetensors", "rng.safetensors", "record.json"}


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(2.0, {"learning_rate_range", "learning_rate_change"}), (1e-10, {"learning_rate_range", "learning_rate_change"}),
     (1.6e-3, {"learning_rate_change"}), (1.2e-3, set())],
)  # fmt: skip
def test_rates_out_of_range_and_sudden_changes(rate: float, expected: set[str]):
    optimizer = torch.optim.SGD(network().parameters(), lr=1e-3)
    detector = LearningRateAnomalyDetector()
    found = []
    for step in range(20):
        optimizer.param_groups[0]["lr"] = 1e-3 if step < 10 else rate
        found += detector.analyze_learning_rate(optimizer, step)

    assert {a["kind"] for a in found} == expected
    assert all(a["step"] == 10 for a in found)


def test_schedules_are_no_anomalies_and_further_groups_are_told_apart():
    model = network()
    groups = [{"params": [p], "lr": 1e-3} for p in model.parameters()]
    optimizer = torch.optim.SGD(groups)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, 1.0, 50),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 450),
        ],
        [50],
    )
    detector = LearningRateAnomalyDetector()
    found = []
    for step in range(500):
        optimizer.step()
        found += detector.analyze_learning_rate(optimizer, step)
        schedule.step()
    assert found == []
    optimizer.param_groups[1]["lr"] = 5.0
    (high, *_) = detector.analyze_learning_rate(optimizer, 500)
    assert high["metadata"]["group"] == 1 and high["message"].startswith("parameter group 1:")


def test_the_advanced_configuration_holds_literally(tmp_path: Path):
    detector = AdvancedAnomalyDetector(
        output_dir=tmp_path / "results",
        gradient={"explosion_threshold": 5.0},
        learning_rate={"change_threshold": 0.2},
        convergence={"plateau_threshold": 0.0005},
    )
    model = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    found = []
    for norm in (4.9, 5.1, 5.2):
        model.weight.grad = torch.full((1, 1), norm)
        found.append(detector.analyze_training_step(model, optimizer, 1.0, 8))

    assert [kinds(f) for f in found] == [[], [(1, "gradient_explosion")], []]
    assert detector.convergence.plateau_threshold == 0.0005
    optimizer.param_groups[0]["lr"] = 1.25e-3
    assert [a["kind"] for a in detector.analyze_training_step(model, optimizer, 1.0, 8)] == ["learning_rate_change"]


def test_in_process_and_in_a_log_the_same_rule_says_the_same():
    generator = torch.Generator().manual_seed(4)
    norms = torch.randn(300, generator=generator).mul(0.2).exp()
    norms[[60, 61, 150, 240]] *= torch.tensor([20.0, 20.0, 7.0, 1e3])
    model = nn.Linear(1, 1, bias=False)
    detector, found = GradientAnomalyDetector(), []
    for step, norm in enumerate(norms):
        model.weight.grad = norm.reshape(1, 1)
        found += detector.analyze_gradients(model, step)
    outside = Engine("run", Settings(), {"gradient_explosion": rule_classes()["gradient_explosion"]}).replay(
        Record("run", "log", step, step, values={"grad_norm": float(norm)}) for step, norm in enumerate(norms)
    )

    assert [a["step"] for a in found if a["kind"] == "gradient_explosion"] == [f.step for f in outside] == [60, 240]


@pytest.mark.parametrize(("norm", "told"), [(30.0, False), (500.0, True), (1e-9, True)])
def test_from_the_first_step_only_what_is_absurd_is_told(norm: float, told: bool):
    model = nn.Linear(1, 1, bias=False)
    model.weight.grad = torch.full((1, 1), norm)

    assert bool(GradientAnomalyDetector().analyze_gradients(model, 0)) == told


def test_convergence_tells_divergence_and_plateau_and_measures_the_course():
    rising, still = ConvergenceTracker(), ConvergenceTracker(window_size=40)
    diverging = [a for step in range(40) for a in rising.analyze_convergence(1.05**step, step)]
    flat = [a for step in range(60) for a in still.analyze_convergence(0.5 + 1e-4 * (step % 3), step)]

    assert diverging[0]["kind"] == "divergence" and diverging[0]["step"] < 15
    assert kinds(flat) == [(39, "plateau")]
    assert still.metrics()["convergence_rate"] == pytest.approx(0.0, abs=1e-3)
    assert rising.metrics()["loss_trend"] > 0 > rising.metrics()["convergence_rate"]
    assert 0 < rising.metrics()["stability_score"] < still.metrics()["stability_score"] <= 1
    assert ConvergenceTracker().metrics() == {}


def test_a_batch_size_that_matters_is_told_a_window_later():
    analyzer = BatchSizeImpactAnalyzer(window_size=10)
    generator = torch.Generator().manual_seed(0)
    noise = (1 + 0.02 * torch.randn(60, generator=generator)).tolist()
    found = [
        alert
        for step, factor in enumerate(noise)
        for alert in analyzer.analyze_batch_impact(8 if step < 30 else 64, (1.0 if step < 30 else 1.4) * factor, step)
    ]

    assert kinds(found) == [(39, "batch_size_impact")]
    assert found[0]["metadata"]["strategy"] == "before_after"


def test_options_that_do_not_exist_are_refused_with_the_nearest(tmp_path: Path):
    with pytest.raises(ValueError, match=r"gradient: unknown option 'explosion_treshold'; did you mean 'explosion_threshold'\?"):
        AdvancedAnomalyDetector(tmp_path, gradient={"explosion_treshold": 5.0})
    with pytest.raises(ValueError, match=r"unknown option 'gradients'; did you mean 'gradient'\?"):
        AdvancedAnomalyDetector(tmp_path, gradients={})
    with pytest.raises(ValueError, match="plateau_threshold must be a number above 0"):
        AdvancedAnomalyDetector(tmp_path, convergence={"plateau_threshold": -1})
    with pytest.raises(TypeError, match="gradient takes a dictionary"):
        AdvancedAnomalyDetector(tmp_path, gradient=5.0)
    for part in ("gradient", "learning_rate", "convergence", "batch_size", "reward"):
        AdvancedAnomalyDetector(tmp_path, **{part: {"window_size": 40}})


def test_the_file_is_bounded_by_count_and_age(tmp_path: Path):
    file = AlertFile(tmp_path, most=50, days=1.0)
    for step in range(200):
        file.append([{"step": step, "value": math.nan}])
    lines = (tmp_path / "alerts.jsonl").read_text(encoding="utf-8").splitlines()
    assert 50 <= len(lines) <= 56
    assert json.loads(lines[-1])["step"] == 199
    old = [json.dumps({**json.loads(line), "time": time.time() - 2 * 86400}) for line in lines[:-3]]
    (tmp_path / "alerts.jsonl").write_text("\n".join([*old, *lines[-3:], "torn"]) + "\n", encoding="utf-8")
    AlertFile(tmp_path, most=50, days=1.0)

    assert (tmp_path / "alerts.jsonl").read_text(encoding="utf-8").splitlines() == lines[-3:]


def test_a_disk_that_refuses_is_no_trouble_of_the_training(tmp_path: Path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    detector = AdvancedAnomalyDetector(tmp_path / "file" / "results")
    model = nn.Linear(1, 1)
    model(torch.full((1, 1), 1e6)).sum().backward()

    assert detector.analyze_training_step(model, loss=1.0)
    assert detector.file.trouble


def test_hooks_call_the_detector_at_the_end_of_a_step_and_survive_a_listener(tmp_path: Path):
    hooks, told = ProfilerHooks(), []
    hook = AnomalyDetectionHook(str(tmp_path), on_alert=told.append, gradient={"explosion_threshold": 5.0}).attach(hooks)
    hooks.register("alert", lambda alert: told.append(alert["kind"]))
    hooks.register("step_end", lambda **_: 1 / 0)
    model = nn.Linear(1, 1, bias=False)
    model.weight.grad = torch.full((1, 1), 9.0)
    hooks.trigger("step_end", model=model, loss=1.0, batch_size=4, epoch=3)

    assert [a["kind"] for a in hook.alerts] == ["gradient_explosion"]
    assert told == [hook.alerts[0], "gradient_explosion"]
    assert hooks.errors == ["step_end: ZeroDivisionError: division by zero"]
    with pytest.raises(ValueError, match=r"unknown option 'step_ende'; did you mean 'step_end'\?"):
        hooks.register("step_ende", print)
