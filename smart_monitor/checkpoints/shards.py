"""The shards that the ranks of one save write beside one another: is every one there, and none newer than the marker?

Two families, wherever they lie in a checkpoint: torch.distributed.checkpoint (`__R_k.distcp`, described by `.metadata`) and
DeepSpeed (`zero_pp_rank_*`, `mp_rank_*`). Their descriptions are pickles. None is unpickled: only the names of files and two
sizes of the world are looked for among the bytes, as plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from smart_monitor.checkpoints.candidate import Candidate, Seen, shown, step_in
from smart_monitor.checkpoints.checks import MAX_MARKER, first_bytes, short_text

MAX_RANKS = 100_000
_DISTCP = re.compile(rb"__[0-9]{1,9}_[0-9]{1,9}\.distcp")
_MODEL = re.compile(r"^mp_rank_([0-9]{1,6})_model_states\.pt$")
_ZERO = re.compile(r"^((?:bf16_|fp16_)?)zero_pp_rank_([0-9]{1,6})_mp_rank_([0-9]{1,6})_(model|optim)_states\.pt$")
_WORLD = re.compile(rb"(dp|mp)_world_size(?:q.|r.{4}|\x94)?(?:K(.)|M(..)|J(....))", re.DOTALL)
_WORLD_WITHIN = 8 * 2**20


def by_folder(files: Iterable[Seen]) -> dict[str, dict[str, Seen]]:
    """Folder within the checkpoint (empty: its top) -> name -> file."""
    folders: dict[str, dict[str, Seen]] = {}
    for seen in files:
        folder, _, name = seen.stamp.path.rpartition("/")
        folders.setdefault(folder, {})[name] = seen
    return folders


def inside(folder: str, name: str) -> str:
    return shown(f"{folder}/{name}" if folder else name)


def first_three(folder: str, names: Iterable[str], because: str = "") -> list[str]:
    """A clause for each of the first three absent names."""
    return [f"{inside(folder, name)} is missing{because}" for name in sorted(names)[:3]]


def distcp_missing(candidate: Candidate, folder: str, files: dict[str, Seen]) -> list[str]:
    """Said of one folder of `.distcp` shards: `.metadata` is renamed into its place after the last byte of the last rank."""
    shards = [(seen.stamp.mtime_ns, name) for name, seen in files.items() if name.endswith(".distcp")]
    marker = files.get(".metadata")
    if marker is None:
        return [f"{inside(folder, '.metadata')}, which is written last, is missing"] if shards else []
    newest, name = max(shards, default=(0, ""))
    if newest > marker.stamp.mtime_ns:
        return [f"{inside(folder, '.metadata')} is older than {shown(name)}: a save over an older one has not finished"]
    described = first_bytes(candidate.file(marker), MAX_MARKER)
    if shards and not (described.startswith(b"\x80") and described.endswith(b".")):
        return [f"{inside(folder, '.metadata')} is cut off"]
    absent = {found.decode() for found in _DISTCP.findall(described)} - set(files)
    return first_three(folder, absent, f" (named in {inside(folder, '.metadata')})")


def is_zero(files: Iterable[str]) -> bool:
    """Are these names of the shards of DeepSpeed?"""
    return any(_MODEL.match(name) or _ZERO.match(name) for name in files)


def zero_missing(candidate: Candidate, folder: str, files: dict[str, Seen]) -> list[str]:
    """Said of one folder of DeepSpeed's shards: each kind that is there must be there of every rank."""
    plain = {int(m[1]) for name in files if (m := _MODEL.match(name))}
    zero = [(m[1], int(m[2]), int(m[3]), m[4]) for name in files if (m := _ZERO.match(name))]
    if not plain and not zero:
        return []
    models = {mp for _, _, mp, _ in zero} | plain
    sizes = world_sizes(candidate, files)
    mps = range(min(sizes.get("mp", 1 + max(models)), MAX_RANKS))
    dps = range(min(sizes.get("dp", 1 + max((dp for _, dp, _, _ in zero), default=0)), MAX_RANKS))
    wanted: set[str] = set()
    if plain or not any(kind == "model" for *_, kind in zero):
        wanted |= {f"mp_rank_{mp:02d}_model_states.pt" for mp in mps}
    if zero:
        kinds = {kind for _, _, _, kind in zero} | {"optim"}  # whoever partitions weights partitions the optimizer
        prefix = next((p for p, _, _, kind in zero if kind == "optim"), "")
        for kind in kinds:
            before = prefix if kind == "optim" else ""
            wanted |= {f"{before}zero_pp_rank_{dp}_mp_rank_{mp:02d}_{kind}_states.pt" for dp in dps for mp in mps}
    return first_three(folder, wanted - set(files))


def world_sizes(candidate: Candidate, files: dict[str, Seen]) -> dict[str, int]:
    """How many data-parallel (dp) and model-parallel (mp) ranks the first shard says there are, as far as it says so."""
    for name in ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_model_states.pt"):
        if name in files:
            head = first_bytes(candidate.file(files[name]), _WORLD_WITHIN)
            if b"mics_shard_size" in head:
                return {}  # MiCS numbers the ranks of a group, not of the world
            found = {m[1].decode(): int.from_bytes(m[2] or m[3] or m[4], "little") for m in _WORLD.finditer(head)}
            return {which: size for which, size in found.items() if 0 < size <= MAX_RANKS}
    return {}


def tag_missing(latest: Path, tag: str, where: str = "latest") -> list[str]:
    """Said of a tag by DeepSpeed's `latest`, which names the last one that was saved."""
    named = short_text(latest)
    if named is None:
        return [f"{where}, which is written last, is missing"]
    mine, last = step_in(tag), step_in(named)
    if named == tag or (mine is not None and last is not None and last > mine):
        return []
    return [f"{where}, which is written last, still names {named or 'nothing'}"]
