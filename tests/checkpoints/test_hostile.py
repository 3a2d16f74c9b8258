"""What lies in a checkpoint is data: never unpickled, never a way out of it, never more work than is bounded."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from smart_monitor.checkpoints.checks import MAX_PARSED, file_problem, is_json_object
from smart_monitor.checkpoints.shelf import Shelf
from tests.checkpoints.test_layouts import WHOLE, looked
from tests.checkpoints.trees import below, distcp, hf_checkpoint, safetensors_bytes, torch_bytes, write, zero_shards

PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".metadata", ".distcp")


class Bomb:
    """Unpickled, it makes a directory."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


def bombs(files: dict[str, bytes], mark: Path) -> dict[str, bytes]:
    """The same tree with a bomb wherever its writer leaves a pickle, within a zip archive where it leaves one."""
    bomb, buffer = pickle.dumps(Bomb(mark)), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", bomb)
    zipped = {name for name, content in files.items() if content.startswith(b"PK")}
    return {n: c if not n.endswith(PICKLED) else buffer.getvalue() if n in zipped else bomb for n, c in files.items()}


def test_a_bomb_goes_off_when_it_is_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark")))
    assert (tmp_path / "mark").is_dir()


@pytest.mark.parametrize("kind", WHOLE)
def test_nothing_is_unpickled(tmp_path: Path, kind: str) -> None:
    files = bombs(WHOLE[kind][3], tmp_path / "mark")
    shelf = looked(write(tmp_path / "run", files))
    shelf.model_files()
    assert not (tmp_path / "mark").exists()
    assert shelf.complete() or shelf.incomplete(0)


def test_looking_at_every_layout_does_not_even_import_an_unpickler(tmp_path: Path) -> None:
    for kind, (_, _, _, files) in WHOLE.items():
        write(tmp_path / "checkpoints" / kind.replace("'", ""), files)
    program = (
        "import sys; from pathlib import Path; from smart_monitor.checkpoints.shelf import Shelf\n"
        "for base in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    shelf = Shelf(base); shelf.scan(9e9); shelf.model_files(); assert len(shelf.complete()) == 1, base\n"
        "print(*({'pickle', '_pickle', 'torch', 'numpy', 'h5py', 'shelve'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "checkpoints"], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("\n", 0), done.stderr


def test_an_index_leads_nowhere_outside(tmp_path: Path) -> None:
    write(tmp_path, {"outside.safetensors": b"not a safetensors file"})
    path = hf_checkpoint(tmp_path / "run", 500)
    names = ["../../outside.safetensors", str(tmp_path / "outside.safetensors"), "a\nb", "x" * 5000]
    index = {"weight_map": dict(enumerate(names))}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    [sentence] = looked(tmp_path / "run").incomplete(0)
    assert sentence.count("is missing (named in model.safetensors.index.json)") == 3
    assert "not a safetensors" not in sentence
    assert sentence.isprintable()


@pytest.mark.parametrize("kind", ["dcp", "deepspeed", "megatron of old", "orbax", "litgpt", "accelerate", "lightning sharded"])
def test_links_out_of_a_checkpoint_are_named_and_never_read(tmp_path: Path, kind: str) -> None:
    _, name, _, files = WHOLE[kind]
    base = write(tmp_path / "run", files)
    secret = write(tmp_path, {"secret": b"swordfish"}) / "secret"
    for path in [p for p in base.rglob("*") if p.is_file() and not p.is_symlink()]:
        path.unlink()
        path.symlink_to(secret)
    shelf = looked(base)
    assert shelf.complete() == []
    assert "swordfish" not in " ".join(shelf.incomplete(0))
    assert name in shelf.incomplete(0)[0]


def test_a_marker_that_is_a_link_is_not_followed_into_the_log(tmp_path: Path) -> None:
    for marker, kind in (("latest", "deepspeed"), ("latest_checkpointed_iteration.txt", "megatron of old")):
        base = write(tmp_path / kind, WHOLE[kind][3])
        (base / marker).unlink()
        (base / marker).symlink_to(write(tmp_path, {"secret": b"swordfish"}) / "secret")
        [sentence] = looked(base).incomplete(0)
        assert f"{marker}, which is written last, is missing" in sentence
        (base / marker).unlink()
        (base / marker).write_bytes(b"[ALERT] a forged\nline")
        assert f"{marker}, which is written last, still names ?" in looked(base).incomplete(0)[0]


def test_a_header_of_many_megabytes_is_not_parsed_and_yet_understood(tmp_path: Path) -> None:
    count = 60_000
    header = json.dumps(
        {f"layer.{k}.weight.of.a.long.name": {"dtype": "U8", "shape": [1], "data_offsets": [k, k + 1]} for k in range(count)}
    )
    assert len(header) > MAX_PARSED
    whole = len(header).to_bytes(8, "little") + header.encode() + b"\1" * count
    (tmp_path / "a.safetensors").write_bytes(whole)
    assert file_problem(tmp_path / "a.safetensors") == ""
    (tmp_path / "a.safetensors").write_bytes(whole[:-1])
    assert "where its header says" in file_problem(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes((6 * 2**20).to_bytes(8, "little") + b"[" * 6 * 2**20)
    assert "does not parse" in file_problem(tmp_path / "a.safetensors")


def test_a_long_history_in_trainer_state_is_not_parsed_and_yet_known_to_be_whole(tmp_path: Path) -> None:
    history = [{"loss": 1.0, "step": k} for k in range(90_000)]
    text = json.dumps({"global_step": 5, "log_history": history, "z": {"nested": {}}}, indent=2)
    assert len(text) > MAX_PARSED
    marker = tmp_path / "trainer_state.json"
    for whole in (text, text + "\n", json.dumps(json.loads(text))):
        marker.write_text(whole)
        assert is_json_object(marker)
    for torn in (text[:-1], text[:-2], text[: text.rindex("}", 0, -2) + 1], text[: len(text) // 2], text[:-2] + "\0\0"):
        marker.write_text(torn)
        assert not is_json_object(marker)


def test_absurd_numbers_of_ranks_and_shards_cost_little(tmp_path: Path) -> None:
    write(tmp_path, below("global_step1", zero_shards(1) | {
        "zero_pp_rank_999999_mp_rank_999999_optim_states.pt": b"", "w-00001-of-99999.safetensors": safetensors_bytes(),
    }) | {"latest": b"global_step1"})  # fmt: skip
    write(tmp_path, below("iter_0000001", {"mp_rank_99999_99999/model_optim_rng.pt": torch_bytes()}))
    write(tmp_path, below("step-1", distcp() | {".metadata": b"\x80" + b"__0_0.distcp__1_0.distcp" * 90_000 + b"."}))
    began = time.process_time()
    shelf = Shelf(tmp_path)
    shelf.scan(time.time() + 3)
    assert len(shelf.incomplete(0)) == 2
    assert all(len(sentence) < 2000 for sentence in shelf.incomplete(0))
    assert time.process_time() - began < 10.0


def test_no_more_candidates_than_bounded_are_looked_at_and_the_rest_is_said(tmp_path: Path) -> None:
    for k in range(150):
        write(tmp_path / "checkpoints", {f"step_{k}.pt": torch_bytes(8)})
    shelf = looked(tmp_path)
    assert [c.step for c in shelf.complete()[-1:]] == [149]
    assert {c.step for c in shelf.complete()} == set(range(50, 150))
    assert shelf.incomplete(0) == [f"{tmp_path / 'checkpoints'}: the 50 oldest checkpoints are not looked at"]
