"""What a killed rotation has left of a checkpoint is never taken for a whole one, whichever files are gone by then."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smart_monitor.checkpoints.shelf import Shelf
from tests.checkpoints.test_layouts import HF, ORBAX, SHARDED, STATE, TORCH_DIST
from tests.checkpoints.trees import below, distcp, safetensors_bytes, torch_bytes, write, zero_shards

LATER = 3.0
HUGGING_FACE = {"config.json": b"{}", "model.safetensors": safetensors_bytes()} | HF | {"scheduler.pt": torch_bytes()} | STATE
PEFT = {"adapter_model.safetensors": safetensors_bytes(), "adapter_config.json": b"{}", "README.md": b"#"} | HF | STATE
RANKS = {f"rng_state_{rank}.pth": torch_bytes() for rank in range(3)}
ACCELERATE = {
    "model.safetensors": safetensors_bytes(), "optimizer.bin": torch_bytes(), "scheduler.bin": torch_bytes(),
    "random_states_0.pkl": b"\x80.", "random_states_1.pkl": b"\x80.",
}  # fmt: skip
LITGPT = {"lit_model.pth": torch_bytes(), "hyperparameters.yaml": b"a: 1", "tokenizer.json": b"{}", "model_config.yaml": b"a: 1"}
MP_RANKS = {f"mp_rank_{t:02d}_{p:03d}/model_optim_rng.pt": torch_bytes() for t in range(2) for p in range(2)}
ZERO = zero_shards(3)
INNER = {"global_step{}/" + name: data for name, data in ZERO.items()} | {"latest": b"global_step{}"}

# names of three of one family, what is in each ({} is the step), what lies beside them
FAMILIES: dict[str, tuple[str, dict[str, bytes], dict[str, bytes]]] = {
    "hf_trainer": ("checkpoint-{}", HUGGING_FACE, {}),
    "of three ranks": ("checkpoint-{}", HUGGING_FACE | RANKS, {}),
    "peft": ("checkpoint-{}", PEFT, {}),
    "sharded": ("checkpoint-{}", HUGGING_FACE | SHARDED, {}),
    "fsdp": ("checkpoint-{}", HF | below("pytorch_model_fsdp_0", distcp()) | below("optimizer_0", distcp()) | STATE, {}),
    "deepspeed in a trainer's": ("checkpoint-{}", INNER | HF | STATE, {}),
    "deepspeed": ("global_step{}", ZERO, {"latest": b"global_step3"}),
    "dcp": ("step-{}", distcp(), {}),
    "accelerate": ("checkpoint_{}", ACCELERATE, {}),
    "orbax": ("{}", ORBAX | {f"default/ocdbt.process_0/d/{k:032x}": b"\1" for k in (99, 11)}, {}),
    "megatron": ("iter_000000{}", TORCH_DIST, {"latest_checkpointed_iteration.txt": b"3"}),
    "megatron of old": ("iter_000000{}", MP_RANKS, {"latest_checkpointed_iteration.txt": b"3"}),
    "litgpt": ("step-0000000{}", LITGPT, {}),
    "torchtune": ("epoch_{}", {"config.json": b"{}", "model.safetensors": safetensors_bytes(), "state.pt": torch_bytes()}, {}),
    "lightning sharded": ("epoch=0-step={}.ckpt", distcp() | {"meta.pt": torch_bytes()}, {}),
}  # fmt: skip


def saved(base: Path, kind: str, step: int) -> Path:
    name, files, beside = FAMILIES[kind]
    mine = {file.replace("{}", str(step)): content.replace(b"{}", str(step).encode()) for file, content in files.items()}
    if kind == "deepspeed in a trainer's":
        mine["latest"] = f"global_step{step}".encode()
    write(base, below(name.format(step), mine))
    write(base, beside)
    return base / name.format(step)


def files_of(path: Path) -> list[Path]:
    return [p for p in path.rglob("*") if p.is_file()]


def complete(base: Path) -> set[str]:
    shelf = Shelf(base)
    shelf.scan(time.time() + LATER)
    return {c.name for c in shelf.complete()}


def tick() -> None:
    """Until a change gets another time stamp."""
    time.sleep(0.02)


def deletions(path: Path) -> Iterator[str]:
    """`path` as a killed rmtree may leave it: each file alone gone, then more and more of them, in two orders."""
    files = {str(f.relative_to(path)): f.read_bytes() for f in sorted(files_of(path), key=lambda f: f.stat().st_mtime_ns)}
    orders = [[name] for name in files]
    orders += [random.Random(seed).sample(list(files), len(files)) for seed in range(2)]
    for order in orders:
        tick()
        for number, name in enumerate(order, 1):
            (path / name).unlink()
            folder = (path / name).parent
            if folder != path and not any(folder.iterdir()):
                folder.rmdir()
            yield f"without {', '.join(order[:number])}"
        shutil.rmtree(path)
        write(path, files)


@pytest.mark.parametrize("kind", FAMILIES)
def test_what_a_killed_rotation_leaves_is_not_complete_to_one_who_sees_it_for_the_first_time(tmp_path: Path, kind: str) -> None:
    oldest, *others = [saved(tmp_path / "current_model", kind, step) for step in (1, 2, 3)]
    assert complete(tmp_path) == {p.name for p in (oldest, *others)}
    for what in deletions(oldest):
        shelf = Shelf(tmp_path)
        shelf.scan(time.time() + LATER)
        assert {c.name for c in shelf.complete()} == {p.name for p in others}, what
        said = any(sentence.startswith(f"{oldest.name} is not complete: ") for sentence in shelf.incomplete(0))
        assert said or kind == "orbax", what  # without any sign of it a bare number is no candidate at all


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_monitor_that_saw_it_whole_knows_what_a_deletion_took_even_without_its_like(tmp_path: Path, kind: str) -> None:
    path = saved(tmp_path / "current_model", kind, 3)
    for file in sorted(files_of(path)):
        shelf = Shelf(tmp_path)
        shelf.scan(time.time() + LATER)
        assert [c.name for c in shelf.complete()] == [path.name]
        file.unlink()
        for after in (LATER, 600.0):
            shelf.scan(time.time() + after)
            assert shelf.complete() == [], file
        assert len(shelf.incomplete(0)) == 1
        tick()
        saved(tmp_path / "current_model", kind, 3)
        shelf.scan(time.time() + LATER)
        assert [c.name for c in shelf.complete()] == [path.name]


def test_what_is_missing_is_told_with_who_has_it(tmp_path: Path) -> None:
    oldest, _ = (saved(tmp_path / "current_model", "hf_trainer", step) for step in (1, 2))
    tick()
    (oldest / "scheduler.pt").unlink()
    shelf = Shelf(tmp_path)
    shelf.scan(time.time() + LATER)
    [sentence] = shelf.incomplete(0)
    assert sentence.startswith(
        "checkpoint-1 is not complete: scheduler.pt is missing (checkpoint-2 has it) and something was deleted"
    )


def test_an_adapter_without_its_configuration_is_not_complete(tmp_path: Path) -> None:
    path = saved(tmp_path / "current_model", "peft", 1)
    (path / "adapter_config.json").unlink()
    tick()
    (path / "trainer_state.json").write_bytes(STATE["trainer_state.json"])  # so that no time stamp tells
    assert complete(tmp_path) == set()


def test_a_link_of_ours_to_what_is_left_hides_nothing(tmp_path: Path) -> None:
    oldest, other = (saved(tmp_path / "current_model", "hf_trainer", step) for step in (1, 2))
    tick()
    (oldest / "optimizer.pt").unlink()
    then = time.time() - 60
    held = tmp_path / ".smart_monitor"
    held.mkdir()
    for file in files_of(oldest):
        os.utime(file, (then, then))
        os.link(file, held / file.name)  # gives it a later ctime
    assert complete(tmp_path) == {other.name}


# -- what is no deletion -------------------------------------------------------------------------


def test_fewer_files_than_its_like_have_are_no_deletion(tmp_path: Path) -> None:
    model = tmp_path / "current_model"
    write(model, below("checkpoint-1", HUGGING_FACE | RANKS))
    write(model, below("checkpoint-2", {k: v for k, v in HUGGING_FACE.items() if k not in ("optimizer.pt", "scheduler.pt")}))
    write(model, below("checkpoint-3", HUGGING_FACE | dict(list(RANKS.items())[:2])))
    assert complete(tmp_path) == {"checkpoint-1", "checkpoint-2", "checkpoint-3"}


def test_an_entry_that_comes_and_goes_is_no_deletion_where_nothing_is_lacking(tmp_path: Path) -> None:
    for kind in ("hf_trainer", "accelerate", "torchtune"):
        for steps in (1, 2):
            base = tmp_path / f"{kind}{steps}" / "current_model"
            paths = [saved(base, kind, step) for step in range(1, steps + 1)]
            tick()
            for path in paths:
                (path / ".config.json.swp").write_bytes(b"an editor's")
                (path / ".config.json.swp").unlink()
            assert complete(base.parent) == {p.name for p in paths}


def test_a_file_renamed_into_place_after_all_others_is_no_deletion(tmp_path: Path) -> None:
    whole, path = (saved(tmp_path / "current_model", "hf_trainer", step) for step in (1, 2))
    (path / "optimizer.pt").unlink()  # one that saves the model only
    (path / "next").write_bytes(STATE["trainer_state.json"])
    tick()
    (path / "next").rename(path / "trainer_state.json")
    assert complete(tmp_path) == {whole.name, path.name}


def test_what_bears_a_hash_or_a_time_in_its_name_is_lacking_nowhere(tmp_path: Path) -> None:
    model = tmp_path / "current_model"
    for step, mark in (("1", "0f07aa91c2d3e4f5"), ("2", "77aa01c2d3e4f5bb")):
        write(model, below(step, ORBAX | {f"default/d/{mark}": b"\2", f"events.out.tfevents.17641{step}0000.host.1": b"1"}))
        tick()
        (model / step / "default" / "process_0").mkdir()
        (model / step / "default" / "process_0").rmdir()
    assert complete(tmp_path) == {"1", "2"}


def test_a_checkpoint_saved_again_with_fewer_files_is_complete_again(tmp_path: Path) -> None:
    path = saved(tmp_path / "current_model", "of three ranks", 1)
    shelf = Shelf(tmp_path)
    shelf.scan(time.time() + LATER)
    assert len(shelf.complete()) == 1
    tick()
    (path / "rng_state_2.pth").unlink()
    shelf.scan(time.time() + LATER)
    assert shelf.complete() == []
    (path / "trainer_state.json").write_bytes(STATE["trainer_state.json"])
    shelf.scan(time.time() + LATER)
    assert len(shelf.complete()) == 1
