"""Trainer directories for tests: real files in the real formats, made without numpy or torch."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import time
import zipfile
from pathlib import Path


def safetensors_bytes(size: int = 1024, fill: bytes = b"\1") -> bytes:
    """A whole safetensors file of one tensor of `size` bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + (fill * (size // len(fill) + 1))[:size]


def torch_bytes(size: int = 256) -> bytes:
    """A zip archive as torch.save writes one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("archive/data/0", b"\2" * size)
    return buffer.getvalue()


def hf_checkpoint(root: Path, step: int, *, size: int = 1024, files: int = 1, aged: float = 60.0, marker: bool = True) -> Path:
    """`root`/checkpoint-STEP as the Hugging Face Trainer leaves it, `aged` seconds ago by its mtimes."""
    path = root / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    for k in range(files):
        name = "model.safetensors" if files == 1 else f"model-{k + 1:05d}-of-{files:05d}.safetensors"
        (path / name).write_bytes(safetensors_bytes(size, bytes([step % 251 + 1, k % 251])))
    (path / "optimizer.pt").write_bytes(torch_bytes())
    (path / "training_args.bin").write_bytes(torch_bytes(16))
    if marker:
        (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    age(path, aged)
    return path


def age(path: Path, seconds: float) -> None:
    """Set every mtime below `path` back. The ctime stays: only waiting ages it."""
    then = time.time() - seconds
    for folder, _, files in os.walk(path, topdown=False):
        for file in files:
            os.utime(os.path.join(folder, file), (then, then), follow_symlinks=False)
        os.utime(folder, (then, then))


def fingerprint(root: Path) -> dict[str, tuple[object, ...]]:
    """All that must not change in a trainer's directory: inode, mode, owner, links, size, times, content."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in [".", *folders, *files]:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            content: object = Path(path).read_bytes() if os.path.isfile(path) and not os.path.islink(path) else None
            found[os.path.relpath(path, root)] = (
                info.st_ino, info.st_mode, info.st_uid, info.st_nlink, info.st_size, info.st_mtime_ns, info.st_ctime_ns, content,
            )  # fmt: skip
    return found


def write(root: Path, files: dict[str, bytes]) -> Path:
    """`root` with these files in it, in this order."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def hdf5_bytes(size: int = 4096, version: int = 0, *, writing: bool = False) -> bytes:
    """As much of an HDF5 file as says where it ends: signature, superblock, bytes."""
    if version < 2:
        head = b"\x89HDF\r\n\x1a\n" + bytes([version, 0, 0, 0, 0, 8, 8, 0]) + struct.pack("<HHI", 4, 16, 0)
        head += b"\0\0\0\0" if version == 1 else b""
    else:
        head = b"\x89HDF\r\n\x1a\n" + bytes([version, 8, 8, int(writing)])
    head += struct.pack("<QQQ", 0, 2**64 - 1, size)
    return head.ljust(size, b"\3")


def distcp(names: tuple[str, ...] = ("__0_0.distcp", "__1_0.distcp")) -> dict[str, bytes]:
    """What torch.distributed.checkpoint leaves in one directory, the description last."""
    described = pickle.dumps({name: (name, 0, 64) for name in names})
    return dict.fromkeys(names, b"\5" * 64) | {".metadata": described}


def deepspeed_bytes(dp: int, mp: int = 1, protocol: int = 2) -> bytes:
    """A shard of DeepSpeed as torch.save writes it: the sizes of the world are in its pickle."""
    state = {"module": {"w": 1}, "global_steps": 100, "dp_world_size": dp, "mp_world_size": mp, "ds_config": {}}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(state, protocol=protocol))
        archive.writestr("archive/data/0", b"\2" * 64)
    return buffer.getvalue()


def zero_shards(dp: int, *, stage: int = 2) -> dict[str, bytes]:
    """`global_stepN/` of DeepSpeed's ZeRO over `dp` ranks."""
    optim = {f"zero_pp_rank_{d}_mp_rank_00_optim_states.pt": torch_bytes() for d in range(dp)}
    if stage < 3:
        return {"mp_rank_00_model_states.pt": deepspeed_bytes(dp)} | {f"bf16_{name}": data for name, data in optim.items()}
    return {f"zero_pp_rank_{d}_mp_rank_00_model_states.pt": deepspeed_bytes(dp) for d in range(dp)} | optim


def below(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{name}": content for name, content in files.items()}
