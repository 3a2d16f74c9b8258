"""The mixin, in a torch module and in Lightning's loop; the module that has everything switched on."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")
lightning = pytest.importorskip("lightning.pytorch", reason="no Lightning here", exc_type=ImportError)

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from smart_monitor.inprocess.clip_module import contrastive_loss, plain_similarity  # noqa: E402
from smart_monitor.probe import EnhancedLightningCLIPModule, EnhancedTrainingMixin  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


class Rows(lightning.loggers.logger.Logger):
    """A logger that remembers."""

    name, version = "rows", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step or 0, metrics))

    def log_hyperparams(self, *given: Any, **named: Any) -> None:
        raise AssertionError("nothing of the kind is logged here")


class MyModule(EnhancedTrainingMixin, lightning.LightningModule):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.setup_gradient_monitoring(enable_gradient_monitoring=True, gradient_clip_threshold=0.01, log_frequency=2, **kwargs)
        self.layer = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
        self.norms: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.layer(batch[0]).square().mean()

    def on_after_backward(self) -> None:
        stats = self.check_and_log_gradients(step=self.global_step, apply_clipping=True)
        assert stats["clipped"]
        self.norms.append(self.grad_monitor.check_gradients()["global_grad_norm"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(module: Any, *columns: torch.Tensor, steps: int = 4, logger: Any = False) -> None:
    trainer = lightning.Trainer(
        max_steps=steps, logger=logger, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu", log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(*columns), batch_size=4))


def test_the_mixin_monitors_and_clips_in_lightnings_loop(capsys: pytest.CaptureFixture[str]):
    torch.manual_seed(0)
    module, rows = MyModule(), Rows()
    fit(module, torch.randn(16, 4) + 1, logger=rows)

    assert module.norms == pytest.approx([0.01] * 4, rel=1e-3)
    assert [step for step, row in rows.rows if "grad/global_norm" in row] == [0, 1, 2, 3]
    assert "Step 2 - Gradient Health: Global Norm=" in capsys.readouterr().out


def test_the_mixin_works_with_a_bare_module_and_watches_activations():
    class Bare(EnhancedTrainingMixin, nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.setup_gradient_monitoring(enable_activation_monitoring=True)
            self.layer = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))

    model = Bare()
    found: dict[str, Any] = {}
    for step in range(1, 4):
        model.layer(torch.randn(8, 4)).sum().backward()
        found = model.check_and_log_gradients(step)
    assert found["activations"].keys() == {"layer.1"}
    assert found["clipped"] is False
    model.setup_gradient_monitoring(enable_gradient_monitoring=False)
    assert model.check_and_log_gradients(1) == {}
    assert {n.split(".")[0] for n in model.state_dict()} == {"layer"}


@pytest.mark.parametrize("number", [2, 3])
def test_the_enhanced_module_learns_to_align(number: int):
    torch.manual_seed(0)
    meaning = torch.randn(16, 6)
    views = [meaning @ torch.randn(6, 10) for _ in range(number)]
    module = EnhancedLightningCLIPModule(
        learning_rate=1e-2, enable_gradient_monitoring=True, use_stable_loss=True, stable_loss_version=1,
        gradient_clip_value=1.0, input_dims=[10] * number, embed_dim=16,
    )  # fmt: skip
    before = float(contrastive_loss(module(*views)))
    fit(module, *views, steps=20)
    assert float(contrastive_loss(module(*views))) < before
    assert module.grad_monitor.last_stats["global_grad_norm"] > 0


def test_the_enhanced_module_can_do_without():
    module = EnhancedLightningCLIPModule(
        enable_gradient_monitoring=False, use_stable_loss=False, gradient_clip_value=0, input_dims=(5, 5)
    )
    x = torch.randn(4, 5)

    assert module.similarity is plain_similarity
    assert module(x, x).shape == (4, 4)
    with pytest.raises(ValueError, match="2 modalities are needed, not 1"):
        module(x)
    with pytest.raises(ValueError, match="at least 2 modalities"):
        EnhancedLightningCLIPModule(input_dims=(5,))


def test_of_two_modalities_the_loss_is_the_symmetric_one():
    logits = torch.randn(5, 5)
    own = torch.arange(5)
    expected = (nn.functional.cross_entropy(logits, own) + nn.functional.cross_entropy(logits.T, own)) / 2

    torch.testing.assert_close(contrastive_loss(logits), expected)
