"""What the documents that people know show is run here: the same calls, the same options, the same results."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from smart_monitor.losses import ImprovedActivations, StableLossFunctions, get_stable_loss_function  # noqa: E402
from smart_monitor.probe import (  # noqa: E402
    AdvancedAnomalyDetector,
    AnomalyDetector,
    EnhancedTrainingMixin,
    GradientHealthMonitor,
    MetricsCollector,
    add_gradient_checkpointing,
    calculate_gradient_cosine_similarity,
)

pytestmark = pytest.mark.torch


class ResidualAttentionBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.tanh(self.inner(x))


class Module(EnhancedTrainingMixin, nn.Module):
    """Gradient health, quick start, options 1 and 2; losses, activations and checkpointing as in its later sections."""

    global_step = 0

    def __init__(self) -> None:
        super().__init__()
        self.setup_gradient_monitoring(enable_gradient_monitoring=True, gradient_clip_threshold=1.0)
        self.grad_monitor = GradientHealthMonitor(model=self, grad_clip_threshold=1.0, log_frequency=100)
        self.activation = ImprovedActivations.gelu
        self.calculate_loss = get_stable_loss_function(loss_version=1, normalize=True, eps=1e-8)
        self.transformer = nn.Sequential(ResidualAttentionBlock(), ResidualAttentionBlock())
        self.head = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [self.activation(self.head(self.transformer(x + shift))) for shift in range(3)]
        return self.calculate_loss(*features)


def test_gradient_health_minimal_and_mixin(capsys: pytest.CaptureFixture[str]):
    torch.manual_seed(0)
    module = Module()
    logits = module(torch.randn(4, 8))
    (logits.sum() * 1e6).backward()
    stats = module.grad_monitor.check_gradients()
    module.grad_monitor.log_statistics(stats, step=module.global_step)
    assert logits.shape == (4, 4, 4)
    assert stats["global_grad_norm"] > 100 and not stats["has_nan"] and stats["min_grad_norm"] > 1e-7
    module.grad_monitor.apply_gradient_clipping(max_norm=1.0)
    module.check_and_log_gradients(step=module.global_step, apply_clipping=True)

    assert module.grad_monitor.check_gradients()["global_grad_norm"] <= 1.0 + 1e-4
    assert capsys.readouterr().out.startswith("Step 0 - Gradient Health: Global Norm=")


def test_gradient_health_custom_monitoring():
    module = Module()
    module(torch.randn(4, 8)).sum().backward()
    monitor = GradientHealthMonitor(
        model=module, grad_clip_threshold=1.0, vanishing_threshold=1e-7, exploding_threshold=100.0, log_frequency=100,
        enable_detailed_logging=True,
    )  # fmt: skip
    flow_summary = monitor.get_gradient_flow_summary()

    assert flow_summary["layers_with_vanishing_grads"] == flow_summary["layers_with_exploding_grads"] == []


def test_gradient_health_custom_loss_of_the_stable_operations():
    stable_ops = StableLossFunctions(eps=1e-8, clamp_min=-100, clamp_max=100)

    def my_custom_loss(*features: torch.Tensor) -> torch.Tensor:
        features = [stable_ops.stable_norm(f) for f in features]
        similarity = stable_ops.stable_norm_based_similarity(*features)
        return torch.clamp(similarity, -10, 10)

    found = my_custom_loss(*[torch.randn(4, 8) * scale for scale in (0.0, 1e20, 1.0)])
    assert found.shape == (4, 4, 4) and found.isfinite().all()


@pytest.mark.parametrize("version", [0, 1, 2, 3])
@pytest.mark.parametrize("number", [2, 3, 6])
def test_gradient_health_every_version_gives_a_tensor_with_one_axis_a_modality(version: int, number: int):
    features = [torch.randn(3, 8, requires_grad=True) for _ in range(number)]
    logits = get_stable_loss_function(version)(*features)
    logits.mean().backward()

    assert logits.shape == (3,) * number
    assert all(f.grad.isfinite().all() for f in features)


def test_gradient_health_checkpointing_by_attribute_and_class():
    torch.manual_seed(0)
    module, x = Module(), torch.randn(4, 8)
    plain = module(x)
    add_gradient_checkpointing(model=module, modules_to_checkpoint=["transformer", "ResidualAttentionBlock"])

    assert torch.equal(plain, module(x))


def test_gradient_health_a_running_wandb_gets_the_metrics(monkeypatch: pytest.MonkeyPatch):
    logged: list[dict[str, float]] = []
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=SimpleNamespace(log=logged.append)))
    module = Module()
    module(torch.randn(4, 8)).sum().backward()
    module.grad_monitor.log_statistics(module.grad_monitor.check_gradients(), step=100)

    assert {"grad/global_norm", "grad/max_norm", "grad/min_norm", "grad/has_nan", "grad/has_inf"} <= set(logged[0])


def test_advanced_detection_basic_and_configured(tmp_path: Path):
    model, batch_size = nn.Linear(3, 1), 16
    optimizer = torch.optim.AdamW(model.parameters())
    basic = AdvancedAnomalyDetector(output_dir=str(tmp_path / "anomaly_results"))
    configured = AdvancedAnomalyDetector(
        output_dir=str(tmp_path / "results"),
        gradient={"explosion_threshold": 5.0},
        learning_rate={"change_threshold": 0.2},
        convergence={"plateau_threshold": 0.0005},
    )
    loss = model(torch.ones(batch_size, 3)).square().mean()
    loss.backward()
    for p in model.parameters():
        p.grad.fill_(3.5)  # a norm of 7
    found = [
        detector.analyze_training_step(model=model, optimizer=optimizer, loss=loss.item(), batch_size=batch_size)
        for detector in (basic, configured)
    ]

    assert found[0] == []
    assert [(a["kind"], a["severity"], round(a["value"], 3), a["threshold"]) for a in found[1]] == [
        ("gradient_explosion", "critical", 7.0, 5.0)
    ]


def test_anomaly_detection_as_set_up_in_main(tmp_path: Path):
    anomaly_detector = AnomalyDetector(
        output_dir=tmp_path,
        rank=0,
        window_size=50,
        loss_threshold_factor=2.0,
        grad_norm_threshold_factor=2.0,
        fixed_loss_threshold=0.3,
        fixed_grad_norm_threshold=1.0,
    )

    assert anomaly_detector.check(1, 0.08, 0.25) is None
    record = anomaly_detector.check(2, 0.85, 2.9, batch={"latents": torch.zeros(1, 2)}, model_checkpoint="checkpoint-100")
    assert record is not None and record["model_checkpoint"] == "checkpoint-100"
    assert (record["threshold_info"]["loss_threshold"], record["threshold_info"]["grad_norm_threshold"]) == (0.3, 1.0)


def test_training_lens_cosine_and_step_metrics():
    gradient = np.random.default_rng(0).normal(size=(3, 4))
    assert calculate_gradient_cosine_similarity(gradient, gradient) == pytest.approx(1.0)
    assert calculate_gradient_cosine_similarity(gradient, np.zeros((3, 4))) == 0.0
    model, collector = nn.Linear(2, 1), MetricsCollector()
    for step in range(2):
        model(torch.ones(1, 2)).sum().backward()
        metrics = collector.collect_step_metrics(model=model, step=step, loss=0.5, gradients=None)

    assert (metrics["step"], metrics["loss"]) == (1, 0.5)
    assert collector.calculate_gradient_cosine_similarity() == pytest.approx(1.0)
