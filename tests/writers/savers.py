"""The real writers: each saves a small model again and again as its users would, and loads what it saved.

Tens of megabytes a checkpoint, so that a save takes long enough to be caught in the middle. Models come from a
configuration; nothing is downloaded. `load` raises whatever the framework raises for a torn checkpoint.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

MIB = 2**20


class Saver:
    """Imports in `prepare`, before the fork; computes in `save` and `load` only, after it."""

    torch: Any

    def prepare(self) -> None:
        import torch

        self.torch = torch

    def state(self, step: int, mib: int = 16) -> dict[str, Any]:
        return {f"w{k}": self.torch.full((mib * MIB // 16,), float(step)) for k in range(4)}

    def save(self, folder: str, saves: int, pause: float) -> None:
        for k in range(1, saves + 1):
            self.save_one(Path(folder), k)
            time.sleep(pause)

    def save_one(self, folder: Path, k: int) -> None:
        raise NotImplementedError

    def load(self, path: str) -> None:
        raise NotImplementedError


class TorchSteps(Saver):
    def save_one(self, folder: Path, k: int) -> None:
        self.torch.save({"model": self.state(k), "step": k}, folder / f"step_{k}.pt")

    def load(self, path: str) -> None:
        model = self.torch.load(path, weights_only=True)["model"]
        assert len({float(w[i]) for w in model.values() for i in (0, -1)}) == 1


class TorchSamePath(TorchSteps):
    """nanoGPT: out/ckpt.pt, overwritten in place."""

    def save_one(self, folder: Path, k: int) -> None:
        (folder / "out").mkdir(exist_ok=True)
        self.torch.save({"model": self.state(k), "step": k}, folder / "out" / "ckpt.pt")


class Safetensors(Saver):
    def prepare(self) -> None:
        super().prepare()
        import safetensors.torch

        self.st = safetensors.torch

    def save_one(self, folder: Path, k: int) -> None:
        self.st.save_file(self.state(k), folder / f"lora-{k:06d}.safetensors")

    def load(self, path: str) -> None:
        assert len(self.st.load_file(path)) == 4


class Dcp(Saver):
    """Single process, a new directory each time."""

    def prepare(self) -> None:
        super().prepare()
        import torch.distributed.checkpoint as dcp

        self.dcp = dcp

    def where(self, folder: Path, k: int) -> Path:
        return folder / f"step-{k}"

    def save_one(self, folder: Path, k: int) -> None:
        self.dcp.save(self.state(k), checkpoint_id=self.where(folder, k), no_dist=True)

    def load(self, path: str) -> None:
        state = self.state(0)
        self.dcp.load(state, checkpoint_id=path, no_dist=True)
        assert len({float(w[i]) for w in state.values() for i in (0, -1)}) == 1, "of two steps"


class DcpSamePath(Dcp):
    def where(self, folder: Path, k: int) -> Path:
        return folder / "latest"


class DcpTwoRanks(Dcp):
    """Two processes over gloo, each with shards of its own."""

    def save(self, folder: str, saves: int, pause: float) -> None:
        child = os.fork()
        rank = 0 if child else 1
        dist = self.torch.distributed
        dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/.rendezvous", 2), rank=rank, world_size=2)
        for k in range(1, saves + 1):
            state = {f"rank{rank}/{name}": w for name, w in self.state(k).items()}
            self.dcp.save(state, checkpoint_id=Path(folder) / f"step-{k}")
            time.sleep(pause)
        # The group is not taken apart, which hangs now and then: one ends when all is saved, and takes the other with it.
        if not child:
            time.sleep(60)
            os._exit(1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    def load(self, path: str) -> None:
        state = {f"rank{r}/{name}": w for r in (0, 1) for name, w in self.state(0).items()}
        self.dcp.load(state, checkpoint_id=path, no_dist=True)
        assert len({float(w[i]) for w in state.values() for i in (0, -1)}) == 1, "of two steps"


class HuggingFace(Saver):
    """transformers' Trainer with save_total_limit."""

    def prepare(self) -> None:
        super().prepare()
        os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        import transformers

        self.tf = transformers
        assert transformers.Trainer and transformers.GPT2LMHeadModel  # imported lazily: now, before the fork

    def model(self) -> Any:
        config = self.tf.GPT2Config(n_embd=384, n_layer=2, n_head=2, vocab_size=8000, n_positions=64)
        return self.tf.GPT2LMHeadModel(config)

    def save(self, folder: str, saves: int, pause: float) -> None:
        rows = [{"input_ids": [k, k + 1, k + 2], "labels": [k, k + 1, k + 2]} for k in range(64)]

        class Rest(self.tf.TrainerCallback):  # type: ignore[name-defined, misc]
            def on_save(self, *_: Any, **__: Any) -> None:
                time.sleep(pause)

        arguments = self.tf.TrainingArguments(
            output_dir=folder, max_steps=saves, save_steps=1, save_total_limit=2, per_device_train_batch_size=1, report_to=[],
            use_cpu=True, disable_tqdm=True, logging_steps=1,
        )  # fmt: skip
        self.tf.Trainer(model=self.model(), args=arguments, train_dataset=rows, callbacks=[Rest()]).train()

    def load(self, path: str) -> None:
        """All that resuming reads."""
        type(self.model()).from_pretrained(path)
        self.rest_of(path)

    def rest_of(self, path: str) -> None:
        if not os.path.exists(f"{path}/trainer_state.json"):
            return  # nothing tells it from a save_pretrained of the user's own: then it is the weights that must be whole
        self.torch.load(f"{path}/optimizer.pt", weights_only=True)
        self.torch.load(f"{path}/scheduler.pt", weights_only=False)
        state = self.tf.TrainerState.load_from_json(f"{path}/trainer_state.json")
        assert state.global_step == int(path.rpartition("-")[2])


class Peft(HuggingFace):
    """A LoRA adapter, through the same Trainer."""

    def prepare(self) -> None:
        super().prepare()
        import peft

        self.peft = peft

    def model(self) -> Any:
        config = self.peft.LoraConfig(
            r=512, target_modules=["c_attn", "c_proj", "c_fc"], task_type="CAUSAL_LM", fan_in_fan_out=True
        )
        return self.peft.get_peft_model(super().model(), config)

    def load(self, path: str) -> None:
        self.peft.PeftModel.from_pretrained(super().model(), path)
        self.rest_of(path)


class Lightning(Saver):
    """ModelCheckpoint with the best two and a copy of the last."""

    last: Any = True

    def prepare(self) -> None:
        super().prepare()
        import lightning.pytorch

        self.pl = lightning.pytorch

    def save(self, folder: str, saves: int, pause: float) -> None:
        torch, pl = self.torch, self.pl

        class Model(pl.LightningModule):  # type: ignore[name-defined, misc]
            def __init__(self) -> None:
                super().__init__()
                self.layer = torch.nn.Linear(2048, 1024)

            def training_step(self, batch: Any, index: int) -> Any:
                self.log("loss", float(index))
                return self.layer(batch).square().mean()

            def configure_optimizers(self) -> Any:
                return torch.optim.AdamW(self.parameters())

            def on_train_batch_start(self, *_: Any) -> None:
                time.sleep(pause)

        keep = pl.callbacks.ModelCheckpoint(save_top_k=2, monitor="loss", mode="max", save_last=self.last, every_n_train_steps=1)
        rows = torch.utils.data.DataLoader(torch.randn(saves, 2048))
        trainer = pl.Trainer(
            default_root_dir=folder, max_epochs=1, callbacks=[keep], accelerator="cpu", devices=1, enable_progress_bar=False,
            enable_model_summary=False, logger=pl.loggers.CSVLogger(folder, name="lightning_logs"),
        )  # fmt: skip
        trainer.fit(Model(), rows)

    def load(self, path: str) -> None:
        found = self.torch.load(path, weights_only=False)
        assert found["state_dict"]["layer.weight"].shape == (1024, 2048)
        assert found["optimizer_states"]


class LightningLink(Lightning):
    last = "link"


class LightningFromAfar(Lightning):
    """With $TMPDIR on another file system the last step is a copy in place, not a rename."""

    def prepare(self) -> None:
        os.environ["TMPDIR"] = "/dev/shm"
        super().prepare()


class Accelerate(Saver):
    """save_state with automatic naming: checkpoints/checkpoint_i, two of them."""

    def prepare(self) -> None:
        super().prepare()
        import accelerate

        self.accelerate = accelerate

    def everything(self, folder: str) -> Any:
        torch = self.torch
        naming = self.accelerate.utils.ProjectConfiguration(project_dir=folder, automatic_checkpoint_naming=True, total_limit=2)
        accelerator = self.accelerate.Accelerator(cpu=True, project_config=naming)
        model = torch.nn.Linear(2048, 1024)
        optimizer = torch.optim.AdamW(model.parameters())
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
        return accelerator, *accelerator.prepare(model, optimizer, scheduler)

    def save(self, folder: str, saves: int, pause: float) -> None:
        accelerator, model, optimizer, scheduler = self.everything(folder)
        for _ in range(saves):
            accelerator.backward(model(self.torch.randn(1, 2048)).square().mean())
            optimizer.step()
            scheduler.step()
            accelerator.save_state()
            time.sleep(pause)

    def load(self, path: str) -> None:
        accelerator, model, *_ = self.everything("/tmp")
        if os.path.exists(f"{path}/random_states_0.pkl"):
            accelerator.load_state(path)
        else:  # nothing tells it from weights that the user saved himself
            self.accelerate.load_checkpoint_in_model(model, path)


class KerasFile(Saver):
    """ModelCheckpoint's way: one path, written over in place."""

    name = "model.keras"

    def prepare(self) -> None:
        os.environ["KERAS_BACKEND"] = "torch"
        super().prepare()
        import keras

        self.keras = keras

    def model(self) -> Any:
        layers = self.keras.layers
        return self.keras.Sequential([layers.Input((1024,)), *(layers.Dense(1024) for _ in range(6))])

    def save(self, folder: str, saves: int, pause: float) -> None:
        model = self.model()
        for _ in range(saves):
            self.put(model, f"{folder}/{self.name}")
            time.sleep(pause)

    def put(self, model: Any, path: str) -> None:
        model.save(path)

    def load(self, path: str) -> None:
        self.keras.saving.load_model(path)


class KerasWeights(KerasFile):
    name = "model.weights.h5"

    def put(self, model: Any, path: str) -> None:
        model.save_weights(path, overwrite=True)

    def load(self, path: str) -> None:
        self.model().load_weights(path)


class Orbax(Saver):
    """A CheckpointManager that keeps two."""

    def prepare(self) -> None:
        os.environ["JAX_PLATFORMS"] = "cpu"
        import orbax.checkpoint

        self.ocp = orbax.checkpoint

    def save(self, folder: str, saves: int, pause: float) -> None:
        import jax.numpy as jnp

        options = self.ocp.CheckpointManagerOptions(max_to_keep=2)
        with self.ocp.CheckpointManager(f"{folder}/checkpoints", options=options) as manager:
            for k in range(1, saves + 1):
                manager.save(k, args=self.ocp.args.StandardSave({f"w{i}": jnp.full((4 * MIB,), k * 1.0) for i in range(4)}))
                manager.wait_until_finished()
                time.sleep(pause)

    def load(self, path: str) -> None:
        items = json.loads(Path(path, "_CHECKPOINT_METADATA").read_text())["item_handlers"]
        for item in items:
            assert len(self.ocp.StandardCheckpointer().restore(f"{path}/{item}")) == 4
