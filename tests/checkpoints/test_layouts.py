"""Each layout on trees made by hand as its writers leave them: whole, and damaged in every way they can be."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from smart_monitor.checkpoints.shelf import Shelf
from tests.checkpoints.trees import (
    age,
    below,
    deepspeed_bytes,
    distcp,
    fingerprint,
    hdf5_bytes,
    safetensors_bytes,
    torch_bytes,
    write,
    zero_shards,
)

ORBAX = {
    "_CHECKPOINT_METADATA": json.dumps({"item_handlers": {"default": "x"}, "commit_timestamp_nsecs": 5}).encode(),
    "default/_METADATA": b"{}", "default/manifest.ocdbt": b"\1", "default/d/0f07": b"\2" * 99, "commit_success.txt": b"yes",
}  # fmt: skip
TORCH_DIST = {"common.pt": torch_bytes()} | distcp() | {"metadata.json": b'{"sharded_backend": "torch_dist"}'}
LEGACY = {f"mp_rank_{t:02d}_{p:03d}/model_optim_rng.pt": torch_bytes() for t in range(2) for p in range(2)}
INDEX = json.dumps({"weight_map": {"a": "m-00001-of-00002.safetensors", "b": "m-00002-of-00002.safetensors"}}).encode()
HF = {"config.json": b"{}", "optimizer.pt": torch_bytes(), "training_args.bin": torch_bytes()}
SHARDED = {f"m-0000{k}-of-00002.safetensors": safetensors_bytes() for k in (1, 2)} | {"model.safetensors.index.json": INDEX}
STATE = {"trainer_state.json": b'{"global_step": 500}'}
NEMO = "m--val_loss=0.1-step=7-consumed_samples=8.0"

# layout, name of the candidate, its step, what lies in the folder (in order of writing)
WHOLE: dict[str, tuple[str, str, int | None, dict[str, bytes]]] = {
    "dcp": ("dcp", "step-100", 100, below("step-100", distcp())),
    "dcp of any name": ("dcp", "mine", None, below("mine", distcp())),
    "nemo": ("dcp", NEMO, 7, below(f"{NEMO}/weights", distcp()) | {f"{NEMO}/context/model.yaml": b"a: 1"}),
    "fsdp in a trainer's": (
        "hf_trainer",
        "checkpoint-500",
        500,
        below("checkpoint-500", HF | below("pytorch_model_fsdp_0", distcp()) | below("optimizer_0", distcp()) | STATE),
    ),
    "sharded safetensors in a trainer's": (
        "hf_trainer",
        "checkpoint-500",
        500,
        below("checkpoint-500", HF | SHARDED | STATE),
    ),
    "deepspeed": ("deepspeed", "global_step100", 100, below("global_step100", zero_shards(3)) | {"latest": b"global_step100"}),
    "deepspeed stage 3": (
        "deepspeed",
        "global_step9",
        9,
        below("global_step9", zero_shards(2, stage=3)) | {"latest": b"global_step9\n"},
    ),
    "deepspeed under a tag": ("deepspeed", "mine", None, below("mine", zero_shards(2)) | {"latest": b"mine"}),
    "deepspeed in a trainer's": (
        "hf_trainer",
        "checkpoint-500",
        500,
        below("checkpoint-500", below("global_step500", zero_shards(2)) | {"latest": b"global_step500"} | HF | STATE),
    ),
    "deepspeed in lightning's": (
        "lightning",
        "epoch=1-step=20.ckpt",
        20,
        below("epoch=1-step=20.ckpt", below("checkpoint", zero_shards(2)) | {"latest": b"checkpoint"}),
    ),
    "lightning": ("lightning", "epoch=1-step=20.ckpt", 20, {"epoch=1-step=20.ckpt": torch_bytes()}),
    "lightning last": ("lightning", "last-v1.ckpt", None, {"last-v1.ckpt": torch_bytes()}),
    "lightning sharded": (
        "lightning",
        "epoch=1-step=20.ckpt",
        20,
        below("epoch=1-step=20.ckpt", distcp() | {"meta.pt": torch_bytes()}),
    ),
    "megatron": (
        "megatron",
        "iter_0000123",
        123,
        below("iter_0000123", TORCH_DIST) | {"latest_checkpointed_iteration.txt": b"123"},
    ),
    "megatron of old": (
        "megatron",
        "iter_0000123",
        123,
        below("iter_0000123", LEGACY) | {"latest_checkpointed_iteration.txt": b"124"},
    ),
    "megatron release": (
        "megatron",
        "release",
        None,
        below("release", LEGACY) | {"latest_checkpointed_iteration.txt": b"release"},
    ),
    "orbax": ("orbax", "100", 100, below("100", ORBAX)),
    "orbax by name": ("orbax", "ckpt_5", 5, below("ckpt_5", {"_CHECKPOINT_METADATA": b"{}", "_METADATA": b"{}", "d/1": b"x"})),
    "keras": ("keras_files", "epoch_03.keras", 3, {"epoch_03.keras": torch_bytes()}),
    "keras weights": ("keras_files", "ckpt.weights.h5", None, {"ckpt.weights.h5": hdf5_bytes()}),
    "keras h5": ("keras_files", "model.h5", None, {"model.h5": hdf5_bytes(version=2)}),
    "accelerate": (
        "accelerate",
        "checkpoint_3",
        3,
        below(
            "checkpoint_3",
            {"model.safetensors": safetensors_bytes(), "optimizer.bin": torch_bytes(), "random_states_0.pkl": b"\x80."},
        ),
    ),
    "litgpt": (
        "litgpt",
        "step-00000010",
        10,
        below("step-00000010", {"lit_model.pth": torch_bytes(), "hyperparameters.yaml": b"", "model_config.yaml": b"a: 1"}),
    ),
    "torchtune": ("model_directory", "epoch_2", 2, below("epoch_2", {"model-00001-of-00001.safetensors": safetensors_bytes()})),
    "nanogpt": ("torch_files", "ckpt.pt", None, {"ckpt.pt": torch_bytes()}),
    "safetensors": ("safetensors_files", "lora-000010.safetensors", 10, {"lora-000010.safetensors": safetensors_bytes()}),
}


def cut(name: str, keep: float = 0.5) -> Callable[[Path], object]:
    def act(root: Path) -> None:
        os.truncate(root / name, int((root / name).stat().st_size * keep))

    return act


def gone(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).unlink()


def put(name: str, content: bytes = b"") -> Callable[[Path], object]:
    return lambda root: write(root, {name: content})


def newer(name: str) -> Callable[[Path], object]:
    return lambda root: os.utime(root / name, (time.time() + 1, time.time() + 1))


def renamed(old: str, new: str) -> Callable[[Path], object]:
    return lambda root: os.rename(root / old, root / new)


# the whole one, what is done to it, and words of the sentence that says so
BROKEN: list[tuple[str, Callable[[Path], object], str]] = [
    ("dcp", gone("step-100/.metadata"), ".metadata, which is written last, is missing"),
    ("dcp", renamed("step-100/.metadata", "step-100/.metadata.tmp"), ".metadata.tmp is still a temporary file"),
    ("dcp", newer("step-100/__1_0.distcp"), ".metadata is older than __1_0.distcp: a save over an older one has not finished"),
    ("dcp", gone("step-100/__1_0.distcp"), "__1_0.distcp is missing (named in .metadata)"),
    ("dcp", cut("step-100/.metadata"), ".metadata is cut off"),
    ("dcp of any name", lambda root: [(root / "mine" / f"__{k}_0.distcp").unlink() for k in (0, 1)], "__0_0.distcp is missing"),
    ("nemo", put(f"{NEMO}-unfinished"), f"{NEMO}-unfinished says that the writer has not finished"),
    ("nemo", gone(f"{NEMO}/weights/.metadata"), "weights/.metadata, which is written last, is missing"),
    (
        "fsdp in a trainer's",
        gone("checkpoint-500/optimizer_0/.metadata"),
        "optimizer_0/.metadata, which is written last, is missing",
    ),
    (
        "fsdp in a trainer's",
        newer("checkpoint-500/pytorch_model_fsdp_0/__0_0.distcp"),
        "pytorch_model_fsdp_0/.metadata is older than",
    ),
    ("fsdp in a trainer's", gone("checkpoint-500/trainer_state.json"), "trainer_state.json, which is written last, is missing"),
    (
        "sharded safetensors in a trainer's",
        gone("checkpoint-500/m-00002-of-00002.safetensors"),
        "m-00002-of-00002.safetensors is missing",
    ),
    ("sharded safetensors in a trainer's", cut("checkpoint-500/m-00002-of-00002.safetensors"), "long where its header says"),
    (
        "sharded safetensors in a trainer's",
        cut("checkpoint-500/model.safetensors.index.json"),
        "model.safetensors.index.json does not parse",
    ),
    (
        "sharded safetensors in a trainer's",
        cut("checkpoint-500/trainer_state.json"),
        "trainer_state.json, which is written last, does not parse",
    ),
    (
        "sharded safetensors in a trainer's",
        put("checkpoint-500/checkpoint-is-incomplete.txt"),
        "says that the writer has not finished",
    ),
    ("sharded safetensors in a trainer's", put("checkpoint-500/.tmpAbCdEf", b"\0" * 99), ".tmpAbCdEf is still a temporary file"),
    (
        "sharded safetensors in a trainer's",
        renamed("checkpoint-500", "tmp-checkpoint-500"),
        "its name says that it is still being written",
    ),
    ("deepspeed", gone("latest"), "latest, which is written last, is missing"),
    ("deepspeed", put("latest", b"global_step50"), "latest, which is written last, still names global_step50"),
    ("deepspeed", put("latest", b""), "latest, which is written last, still names nothing"),
    (
        "deepspeed",
        gone("global_step100/bf16_zero_pp_rank_2_mp_rank_00_optim_states.pt"),
        "bf16_zero_pp_rank_2_mp_rank_00_optim_states.pt is missing",
    ),
    ("deepspeed", cut("global_step100/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"), "zip archive without its end"),
    ("deepspeed", gone("global_step100/mp_rank_00_model_states.pt"), "mp_rank_00_model_states.pt is missing"),
    (
        "deepspeed stage 3",
        gone("global_step9/zero_pp_rank_1_mp_rank_00_optim_states.pt"),
        "zero_pp_rank_1_mp_rank_00_optim_states.pt is missing",
    ),
    (
        "deepspeed stage 3",
        gone("global_step9/zero_pp_rank_1_mp_rank_00_model_states.pt"),
        "zero_pp_rank_1_mp_rank_00_model_states.pt is missing",
    ),
    ("deepspeed under a tag", put("latest", b"other"), "latest, which is written last, still names other"),
    ("deepspeed in a trainer's", gone("checkpoint-500/latest"), "latest, which is written last, is missing"),
    (
        "deepspeed in a trainer's",
        gone("checkpoint-500/global_step500/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"),
        "global_step500/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt is missing",
    ),
    (
        "deepspeed in lightning's",
        gone("epoch=1-step=20.ckpt/checkpoint/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"),
        "is missing",
    ),
    ("lightning", cut("epoch=1-step=20.ckpt", 0.9), "it is a zip archive without its end"),
    ("lightning", put("epoch=1-step=20-unfinished"), "epoch=1-step=20-unfinished says that the writer has not finished"),
    ("lightning", put("epoch=1-step=20.ckpt-unfinished"), "says that the writer has not finished"),
    ("lightning last", put("last-v1.ckpt"), "it is empty"),
    ("lightning sharded", gone("epoch=1-step=20.ckpt/meta.pt"), "meta.pt, which is written after the shards, is missing"),
    ("lightning sharded", gone("epoch=1-step=20.ckpt/.metadata"), ".metadata, which is written last, is missing"),
    ("megatron", gone("iter_0000123/metadata.json"), "metadata.json, which is written last, is missing"),
    ("megatron", cut("iter_0000123/metadata.json"), "metadata.json, which is written last, does not parse"),
    ("megatron", gone("iter_0000123/.metadata"), ".metadata, which is written last, is missing"),
    ("megatron", gone("iter_0000123/common.pt"), "common.pt is missing"),
    ("megatron", gone("iter_0000123/__0_0.distcp"), "__0_0.distcp is missing (named in .metadata)"),
    (
        "megatron of old",
        gone("latest_checkpointed_iteration.txt"),
        "latest_checkpointed_iteration.txt, which is written last, is missing",
    ),
    ("megatron of old", put("latest_checkpointed_iteration.txt", b"100\n"), "still names 100"),
    ("megatron of old", put("latest_checkpointed_iteration.txt", b"release"), "still names release"),
    ("megatron of old", gone("iter_0000123/mp_rank_01_001/model_optim_rng.pt"), "mp_rank_01_001/model_optim_rng.pt is missing"),
    (
        "megatron of old",
        put("iter_0000123/mp_rank_00_000/distrib_optim.pt", torch_bytes()),
        "mp_rank_00_001/distrib_optim.pt is missing",
    ),
    ("megatron of old", cut("iter_0000123/mp_rank_00_001/model_optim_rng.pt"), "zip archive without its end"),
    ("orbax", renamed("100", "100.orbax-checkpoint-tmp-17"), "its name says that it is still being written"),
    (
        "orbax",
        renamed("100/default", "100/default.orbax-checkpoint-tmp"),
        "default.orbax-checkpoint-tmp is still a temporary file",
    ),
    (
        "orbax",
        put("100/_CHECKPOINT_METADATA", b'{"item_handlers": {"default": 1, "metrics": 2}}'),
        "metrics is missing (named in _CHECKPOINT_METADATA)",
    ),
    ("orbax", put("100/_CHECKPOINT_METADATA", b'{"commit_timestamp_nsecs": null}'), "tells no time of commit"),
    ("orbax", put("100/_CHECKPOINT_METADATA", b"{"), "_CHECKPOINT_METADATA does not parse"),
    ("keras", cut("epoch_03.keras"), "zip archive without its end"),
    ("keras weights", cut("ckpt.weights.h5"), "it is 2048 bytes long where its HDF5 superblock says 4096"),
    ("keras weights", put("ckpt.weights.h5", b"\0" * 4096), "has no HDF5 superblock"),
    ("keras weights", put("ckpt.weights.h5"), "it is empty"),
    ("keras h5", put("model.h5", hdf5_bytes(version=3, writing=True)), "is open for writing, says its HDF5 superblock"),
    ("keras h5", put("model.h5", hdf5_bytes(version=9)), "superblock that is cut off or unknown"),
    ("accelerate", gone("checkpoint_3/random_states_0.pkl"), "random_states_0.pkl, which is written last, is missing"),
    ("accelerate", cut("checkpoint_3/optimizer.bin"), "optimizer.bin is a zip archive without its end"),
    ("litgpt", cut("step-00000010/lit_model.pth"), "lit_model.pth is a zip archive without its end"),
    (
        "torchtune",
        renamed("epoch_2/model-00001-of-00001.safetensors", "epoch_2/model-00001-of-00002.safetensors"),
        "model-00002-of-00002.safetensors is missing",
    ),
    ("nanogpt", cut("ckpt.pt"), "it is a zip archive without its end"),
    ("safetensors", cut("lora-000010.safetensors"), "long where its header says"),
]


def looked(base: Path) -> Shelf:
    shelf = Shelf(base)
    shelf.scan(time.time() + 3)
    return shelf


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("where", [".", "current_model", "checkpoints", "backup", "lightning_logs/version_2/checkpoints"])
def test_what_a_writer_leaves_is_complete_wherever_it_is_put(tmp_path: Path, kind: str, where: str) -> None:
    layout, name, step, files = WHOLE[kind]
    write(tmp_path / where, files)
    before = fingerprint(tmp_path)
    shelf = looked(tmp_path)
    assert shelf.incomplete(0) == []
    [found] = shelf.complete()
    assert (found.layout, found.name, found.step, found.path) == (layout, name, step, str(tmp_path / where / name))
    assert len(found.complete_by.split()) > 3
    assert before == fingerprint(tmp_path)


@pytest.mark.parametrize(("kind", "act", "words"), BROKEN, ids=lambda v: v if isinstance(v, str) else "")
def test_what_is_missing_is_said_in_words(tmp_path: Path, kind: str, act: Callable[[Path], object], words: str) -> None:
    write(tmp_path, WHOLE[kind][3])
    act(tmp_path)
    shelf = looked(tmp_path)
    assert shelf.complete() == []
    [sentence] = shelf.incomplete(0)
    assert words in sentence
    assert "\n" not in sentence


MARKED = [k for k in WHOLE if k.startswith(("dcp", "fsdp", "sharded", "deepspeed", "lightning", "megatron of", "megatron r"))]


@pytest.mark.parametrize("kind", MARKED)
def test_written_file_by_file_it_is_complete_with_the_last_one_only(tmp_path: Path, kind: str) -> None:
    files = WHOLE[kind][3]
    for name, content in files.items():
        write(tmp_path, {name: content[: len(content) // 2]})
        assert looked(tmp_path).complete() == [], name
        write(tmp_path, {name: content})
        assert bool(looked(tmp_path).complete()) == (name == list(files)[-1]), name


def test_beside_one_with_a_marker_another_without_it_is_not_complete(tmp_path: Path) -> None:
    for kind, marker in (("litgpt", "model_config.yaml"), ("accelerate", "random_states_0.pkl"), ("orbax", "commit_success.txt")):
        _, name, _, files = WHOLE[kind]
        base = tmp_path / kind
        other = {"litgpt": "step-00000009", "accelerate": "checkpoint_2", "orbax": "99"}[kind]
        marks = ("model_config", "random_states", "commit_success", "optimizer.bin", "hyperparameters")
        write(base, files | {f.replace(name, other): content for f, content in files.items() if not any(m in f for m in marks)})
        shelf = looked(base)
        assert [c.name for c in shelf.complete()] == [name]
        assert [f"{marker}, which is written last, is missing" in s for s in shelf.incomplete(0)] == [True]


def test_lightnings_link_to_the_last_one_is_no_checkpoint_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, {"epoch=1-step=20.ckpt": torch_bytes()})
    (tmp_path / "last.ckpt").symlink_to("epoch=1-step=20.ckpt")
    assert [c.name for c in looked(tmp_path).complete()] == ["epoch=1-step=20.ckpt"]


def test_a_directory_of_megatron_behind_a_link_is_judged_by_the_tracker_beside_the_link(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", below("kept", LEGACY))
    base = write(tmp_path / "run", {"latest_checkpointed_iteration.txt": b"100"})
    (base / "iter_0000123").symlink_to(tmp_path / "elsewhere" / "kept")
    assert "still names 100" in looked(base).incomplete(0)[0]
    put("latest_checkpointed_iteration.txt", b"123")(base)
    [found] = looked(base).complete()
    assert (found.name, found.path) == ("iter_0000123", str(tmp_path / "elsewhere" / "kept"))


@pytest.mark.parametrize("protocol", [2, 4])
def test_the_number_of_ranks_is_read_from_the_first_shard(tmp_path: Path, protocol: int) -> None:
    for ranks in (2, 300):
        files = zero_shards(2) | {"mp_rank_00_model_states.pt": deepspeed_bytes(ranks, protocol=protocol)}
        base = write(tmp_path / f"{ranks}", below("global_step1", files) | {"latest": b"global_step1"})
        said = looked(base).incomplete(0)
        assert bool(said) == (ranks == 300)
        assert not said or said[0].count("is missing") == 3


def test_a_folder_of_checkpoints_is_none_itself_but_one_without_is(tmp_path: Path) -> None:
    write(tmp_path / "several" / "checkpoint", {"step_100.pt": torch_bytes(), "step_200.pt": torch_bytes()})
    write(tmp_path / "one" / "checkpoint", {"model.safetensors": safetensors_bytes(), "config.json": b"{}"})
    assert [c.name for c in looked(tmp_path / "several").complete()] == ["step_100.pt", "step_200.pt"]
    assert "checkpoint" in [c.name for c in looked(tmp_path / "one").complete()]


@pytest.mark.parametrize(
    "where", ["logs", "snapshots", ".smart_monitor", "data", "out/.partial-x", "checkpoints/wandb", "a/b", "x.monitor/out"]
)
def test_other_folders_are_not_looked_into(tmp_path: Path, where: str) -> None:
    write(tmp_path / where, {"step_100.pt": torch_bytes()})
    shelf = looked(tmp_path)
    assert (shelf.complete(), shelf.incomplete(0)) == ([], [])


@pytest.mark.parametrize(
    "where",
    ["out", "output/llama/v0-20260101", "saves/llama/lora/sft", "lora-out", "trainer_output", "tb_logs/m/version_0/checkpoints"],
)
def test_the_folders_that_trainers_make_are_looked_into(tmp_path: Path, where: str) -> None:
    write(tmp_path / where, {"step_100.pt": torch_bytes()})
    assert [c.path for c in looked(tmp_path).complete()] == [str(tmp_path / where / "step_100.pt")]


def test_time_stamps_set_back_do_not_make_an_old_description_newer(tmp_path: Path) -> None:
    write(tmp_path, WHOLE["dcp"][3])
    age(tmp_path / "step-100", 500)
    write(tmp_path, {"step-100/__0_0.distcp": b"\6" * 64})
    assert "a save over an older one has not finished" in looked(tmp_path).incomplete(0)[0]
