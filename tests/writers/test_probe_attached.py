"""The probe in the frameworks' own training loops: what it records is what a slow twin sees at the same moment."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest

needed = ("torch", "transformers", "accelerate", "lightning", "trl")
if any(importlib.util.find_spec(name) is None for name in needed):
    pytest.skip("frameworks are not installed: scripts/test --all makes their environment", allow_module_level=True)

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

from smart_monitor.probe import ProbeCallback, ProbeMixin, Schedule, attach  # noqa: E402

pytestmark = [pytest.mark.writers, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

EACH = Schedule(layers=1, direction=0, updates=2, weights=0, pairs=2)


def records(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "probe_rank_0.jsonl").read_text().splitlines()]


def total(model: nn.Module) -> float:
    """The norm of all gradients by the slow way."""
    return math.hypot(*(float(p.grad.double().norm()) for p in model.parameters() if p.grad is not None))


class Regression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(8, 32), nn.Linear(32, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        out = self.head(torch.tanh(self.body(x)))
        return {"loss": (out - labels).square().mean(), "logits": out}


def rows(count: int = 64) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 8, generator=generator)
    return [{"x": row, "labels": row.sum().reshape(1)} for row in x]


@pytest.mark.parametrize("clipping", [0.1, 0.0])
def test_transformers_gradients_before_clipping_and_the_loss_before_the_filter(tmp_path: Path, clipping: float) -> None:
    from transformers import Trainer, TrainingArguments

    torch.manual_seed(0)
    args = TrainingArguments(
        output_dir=str(tmp_path / "run"), max_steps=4, per_device_train_batch_size=4, gradient_accumulation_steps=2,
        max_grad_norm=clipping, report_to=[], logging_steps=1, use_cpu=True, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    data = rows()
    trainer = Trainer(Regression(), args, train_dataset=data)
    attached = attach(trainer, schedule=EACH)
    seen: list[float] = []
    original = trainer.accelerator.clip_grad_norm_

    def spied(*given: Any, **named: Any) -> Any:
        seen.append(total(trainer.model))
        return original(*given, **named)

    trainer.accelerator.clip_grad_norm_ = spied
    trainer.train()
    found = records(tmp_path / "run")
    assert [1, 2, 3, 4] == [r["step"] for r in found]
    assert [r["grad_norm"] for r in found] == pytest.approx(seen, rel=1e-5)
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert [r["loss"] for r in found] == pytest.approx(logged, rel=1e-3)
    assert {"grad_layer/body.weight", "grad_layer/head.bias"} < found[0].keys()
    assert (found[0]["batch_size"], found[0]["total_steps"]) == (2 * 4, 4)
    assert attached.probe is not None
    assert "" == attached.probe.trouble


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_of_accumulated_micro_batches_the_one_that_was_not_finite_is_kept_too(tmp_path: Path, bad: int) -> None:
    from transformers import Trainer, TrainingArguments

    seen: list[torch.Tensor] = []

    class Breaking(Trainer):
        def compute_loss(self, model: nn.Module, inputs: dict[str, torch.Tensor], *given: Any, **named: Any) -> Any:
            seen.append(inputs["x"].clone())
            return super().compute_loss(model, inputs, *given, **named) * (math.nan if len(seen) == 4 + bad else 1.0)

    args = TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=2, gradient_accumulation_steps=3, report_to=[],
        use_cpu=True, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = Breaking(Regression(), args, train_dataset=rows())
    attach(trainer)
    trainer.train()
    (line,) = (json.loads(text) for text in (tmp_path / "anomalies/anomalies_rank_0.jsonl").read_text().splitlines())
    assert line["step"] == 2
    kept = [load_file(tmp_path / line["batch_info"][f"{at}.x_path"])[f"{at}.x"] for at in range(3)]
    assert all(torch.equal(*pair) for pair in zip(kept, seen[3:6], strict=True))


def test_transformers_a_nan_that_its_log_hides_is_recorded_and_kept(tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    data = rows()
    data[5]["labels"] = torch.tensor([math.nan])
    args = TrainingArguments(
        output_dir=str(tmp_path), max_steps=12, per_device_train_batch_size=8, report_to=[], logging_steps=1, use_cpu=True,
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(Regression(), args, train_dataset=data)
    attach(trainer)
    trainer.train()
    bad = [r for r in records(tmp_path) if r["has_nan"]]
    assert bad
    assert math.isnan(bad[0]["loss"])
    assert math.isfinite(next(row["loss"] for row in trainer.state.log_history if row.get("step") == bad[0]["step"]))
    (line,) = (json.loads(text) for text in (tmp_path / "anomalies/anomalies_rank_0.jsonl").read_text().splitlines())
    assert line["batch_info"]["labels_shape"] == [8, 1]
    assert (tmp_path / line["batch_info"]["x_path"]).exists()


def test_accelerate_with_and_without_clipping(tmp_path: Path) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = Regression()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = torch.utils.data.DataLoader(rows(), batch_size=4)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    attached = attach(accelerator, model, optimizer, directory=tmp_path, schedule=EACH)
    seen, losses = [], []
    for number, batch in enumerate(loader):
        with accelerator.accumulate(model):
            loss = model(**batch)["loss"]
            losses.append(float(loss))
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                seen.append(total(model))
                if number > 7:
                    accelerator.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad()
    attached.end()
    found = records(tmp_path)
    assert [r["grad_norm"] for r in found] == pytest.approx(seen, rel=1e-5)
    assert [r["loss"] for r in found] == pytest.approx([(a + b) / 2 for a, b in zip(losses[::2], losses[1::2], strict=True)])
    assert found[2]["update_ratio"] > 0


def lightning_module(*mixins: type) -> Any:
    from lightning.pytorch import LightningModule

    class Module(*mixins, LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = Regression()
            self.seen: list[float] = []

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return self.model(**batch)["loss"]

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            self.seen.append(total(self.model))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    return Module()


@pytest.mark.parametrize("how", ["callback", "mixin", "attach"])
def test_lightning_measures_once_a_step_before_clipping(tmp_path: Path, how: str) -> None:
    from lightning.pytorch import Trainer

    module = lightning_module(*([type("Mine", (ProbeMixin,), {"probe_options": {"schedule": EACH}})] if how == "mixin" else []))
    trainer = Trainer(
        max_steps=4, accumulate_grad_batches=2, gradient_clip_val=0.1, accelerator="cpu", enable_checkpointing=False,
        logger=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=str(tmp_path),
        callbacks=[ProbeCallback(schedule=EACH)] if how == "callback" else None,
    )  # fmt: skip
    if how == "attach":
        attach(trainer, schedule=EACH)
    trainer.fit(module, torch.utils.data.DataLoader(rows(), batch_size=4))
    found = records(tmp_path)
    assert [1, 2, 3, 4] == [r["step"] for r in found]
    assert [r["grad_norm"] for r in found] == pytest.approx(module.seen, rel=1e-5)
    assert max(module.seen) > 0.1
    assert all(math.isfinite(r["loss"]) for r in found)
    assert "grad_layer/model.head.weight" in found[0]


def test_trl_pairs_of_a_reward_model_become_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast
    from trl import RewardConfig, RewardTrainer

    from smart_monitor.probe import rewards

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(rewards, "LEAST", 8)
    words = {w: i for i, w in enumerate(["<pad>", "<eos>", "<unk>", *"abcdefgh"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_labels=1,
        pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    data = Dataset.from_dict({"chosen": ["a b c", "d e f"] * 16, "rejected": ["g h", "h g a"] * 16})
    trainer = RewardTrainer(
        LlamaForSequenceClassification(config),
        RewardConfig(output_dir=str(tmp_path), max_steps=8, per_device_train_batch_size=4, report_to=[], use_cpu=True,
                     save_strategy="no", disable_tqdm=True),
        train_dataset=data, processing_class=fast,
    )  # fmt: skip
    attach(trainer, schedule=EACH)
    trainer.train()
    found = [r for r in records(tmp_path) if "calibration_error" in r]
    assert found
    assert found[-1]["calibration_pairs"] >= 8
    assert 0 <= found[-1]["calibration_error"] <= 1
    assert 0 < found[-1]["calibration_error_null"] <= 1


def test_figures_arrive_in_tensorboard_and_offline_wandb_without_moving_its_step(tmp_path: Path) -> None:
    import wandb
    from torch.utils.tensorboard import SummaryWriter

    from smart_monitor.probe import Probe
    from smart_monitor.sources import Options, formats

    model = Regression()
    run, board = wandb.init(mode="offline", dir=str(tmp_path)), SummaryWriter(str(tmp_path / "board"))
    probe = Probe(model, None, tmp_path, loggers=[run, board], schedule=EACH)
    for step in range(3):
        batch = {k: torch.stack([row[k] for row in rows(4)]) for k in ("x", "labels")}
        model(**batch)["loss"].backward()
        probe.step(step=step)
        run.log({"mine": float(step)}, step=step)
    probe.close()
    board.close()
    run.finish()
    wanted = {"grad_norm", "grad/max_norm", "grad_layer/head.bias"}
    for name, pattern in (("tensorboard", "board"), ("wandb", "wandb/offline-run-*/*.wandb")):
        (place,) = tmp_path.glob(pattern)
        described = next(f for f in formats() if f.name.startswith(name))
        found = [r for r in described.open(place, "", "", Options()).whole(print) if wanted <= r.values.keys()]
        if name == "wandb":  # a row waits for the next one when its step is given by hand; what comes meanwhile replaces
            everything = list(described.open(place, "", "", Options()).whole(print))
            assert [r.values["mine"] for r in everything if "mine" in r.values] == [0.0, 1.0, 2.0], everything
            assert {1.0, 2.0} <= {r.values["probe/step"] for r in found}
        else:
            assert [r.step for r in found] == [0, 1, 2]
