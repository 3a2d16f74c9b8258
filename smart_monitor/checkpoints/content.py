"""Is a candidate whole? What its files, their names and the marks of the writer beside it say is missing, in words."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from smart_monitor.checkpoints.candidate import Candidate, Seen, shard_of, shown, step_in
from smart_monitor.checkpoints.checks import file_problem, is_json_object, json_object, short_text
from smart_monitor.checkpoints.remains import remains
from smart_monitor.checkpoints.shards import by_folder, distcp_missing, is_zero, tag_missing, zero_missing


def content_missing(candidate: Candidate, usual: Iterable[str] = ()) -> list[str]:
    """What the files of a candidate themselves say is missing: damage, absent shards, unfinished names, traces of a deletion.

    `usual` as `remains` takes it.
    """
    if candidate.content is None:
        candidate.content = tuple(dict.fromkeys(_content(candidate)))
    return [*candidate.content, *unfinished(candidate), *remains(candidate, usual)]


def _content(candidate: Candidate) -> list[str]:
    tree = candidate.tree
    said = list(tree.problems)
    said += [f"{shown(name)} is still a temporary file" for name in tree.temporary[:3]]
    for seen in tree.files:
        name = "it" if candidate.single else shown(seen.stamp.path)
        if seen.stamp.path.endswith("checkpoint-is-incomplete.txt"):
            said.append("checkpoint-is-incomplete.txt says that the writer has not finished")
        elif not _readable(candidate.file(seen), seen):
            said.append(f"{name} can't be read by this user (mode {seen.mode & 0o777:04o}, owner uid {seen.uid})")
        elif problem := file_problem(candidate.file(seen)):
            said.append(f"{name} {problem}")
    names = tree.names()
    for seen in tree.files:
        if seen.stamp.path.endswith(".index.json"):
            said += _index_missing(candidate, seen, names)
    said += [f"{shown(name)} is missing" for name in absent_shards(names)]
    if not candidate.single:
        for folder, files in by_folder(tree.files).items():
            said += distcp_missing(candidate, folder, files)
            said += zero_missing(candidate, folder, files)
            if folder and is_zero(files):
                said += _tag_missing(candidate, folder)
    if not candidate.single and not tree.files and not said:
        said.append("no file has been written yet")
    return said


def marker_missing(candidate: Candidate, marker: str) -> list[str]:
    """Said of a marker in JSON that is written last of all and in place."""
    if marker not in candidate.tree.names():
        return [f"{marker}, which is written last, is missing"]
    return [] if is_json_object(candidate.path / marker) else [f"{marker}, which is written last, does not parse"]


def step_told(candidate: Candidate) -> int | None:
    """The step that the markers in a directory tell where its name does not: plain JSON or text, never a pickle."""
    names = candidate.tree.names()
    if "trainer_state.json" in names:
        step = (json_object(candidate.path / "trainer_state.json") or {}).get("global_step")
        return step if isinstance(step, int) and 0 <= step < 10**18 else None
    return step_in(short_text(candidate.path / "latest") or "") if "latest" in names else None


def beside(candidate: Candidate, family: re.Pattern[str]) -> set[str]:
    """Names of files in the directories beside the candidate whose names are of the same family of writers."""
    pairs = (n.partition("/") for n in candidate.neighbours)
    return {file for sibling, _, file in pairs if file and sibling != candidate.name and family.match(sibling)}


def unfinished(candidate: Candidate) -> list[str]:
    """NeMo keeps a NAME-unfinished beside a checkpoint until it has been written; NAME without its suffix or `-last`."""
    stem = candidate.name.removesuffix(".nemo").removesuffix(".ckpt")
    marks = {f"{name}-unfinished" for name in (candidate.name, stem, stem.removesuffix("-last"))} & candidate.neighbours
    return [f"{shown(mark)} says that the writer has not finished" for mark in sorted(marks)]


def _tag_missing(candidate: Candidate, folder: str) -> list[str]:
    outer, _, tag = folder.rpartition("/")
    where = f"{outer}/latest" if outer else "latest"
    if any(name == where for name, _ in candidate.tree.external):
        return []
    return tag_missing(candidate.path / where, tag, shown(where))


def weights_missing(candidate: Candidate, others: re.Pattern[str] | None = None) -> list[str]:
    """Said of a directory that holds only what writers put there beside the weights.

    `others` are such names of one writer, for what was deleted from: one that is whole may bear its weights under any name.
    """
    beside = (".json", ".txt", ".md", ".jinja", ".yaml", ".yml", ".py", "tokenizer.model", "spiece.model")
    others = others if candidate.tree.removed else None
    for seen in candidate.tree.files:
        if seen.stamp.bytes and not seen.stamp.path.endswith(beside) and not (others and others.match(seen.stamp.path)):
            return []
    return ["no weights are there"]


def indexed_files(path: Path) -> set[str] | None:
    """The file names in the weight map of an index, or None if it does not parse."""
    weight_map = (json_object(path) or {}).get("weight_map")
    return {str(v) for v in weight_map.values()} if isinstance(weight_map, dict) else None


def _index_missing(candidate: Candidate, seen: Seen, names: set[str]) -> list[str]:
    wanted = indexed_files(candidate.file(seen))
    if wanted is None:
        return [f"{shown(seen.stamp.path)} does not parse"]
    folder = seen.stamp.path.rpartition("/")[0]
    paths = {f"{folder}/{w}" if folder else w for w in wanted}
    external = {name for name, _ in candidate.tree.external}
    return [f"{shown(p)} is missing (named in {shown(seen.stamp.path)})" for p in sorted(paths - names - external)[:3]]


def absent_shards(names: set[str]) -> list[str]:
    """Names of shards that the counts in the names of the others promise, three at most of each set."""
    groups: dict[tuple[str, int], dict[int, str]] = defaultdict(dict)
    for name in names:
        if found := shard_of(name):
            groups[found[0], found[2]][found[1]] = name
    absent: list[str] = []
    for (_, count), numbers in sorted(groups.items()):
        first = 0 if 0 in numbers else 1
        if len(numbers) >= count or count > 99_999:
            continue
        number, name = next(iter(sorted(numbers.items())))
        for k in [k for k in range(first, first + count) if k not in numbers][:3]:
            old, new = f"{number:0{_width(name)}d}-of-", f"{k:0{_width(name)}d}-of-"
            absent.append(name.replace(old, new, 1))
    return absent


def _width(name: str) -> int:
    found = name.partition("-of-")[0]
    return len(found) - len(found.rstrip("0123456789"))


def _readable(path: Path, seen: Seen) -> bool:
    return seen.uid == os.geteuid() or os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)
