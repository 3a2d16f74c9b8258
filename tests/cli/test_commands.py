"""The command line: help with an example everywhere, exit codes, JSON, and one sentence for what a user can cause."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest

from smart_monitor.cli import cli
from smart_monitor.config import KEYS
from tests.command_line import ROOT, command, environment, process, status
from tests.daemon.watching import Monitor, Trainer
from tests.waiting import until


def commands() -> list[list[str]]:
    """The path of every command there is."""

    def below(group: click.Command, path: list[str]) -> list[list[str]]:
        found = [path]
        if isinstance(group, click.Group):
            context = click.Context(group)
            for name in group.list_commands(context):
                child = group.get_command(context, name)
                assert child is not None
                found += below(child, [*path, name])
        return found

    return below(cli, [])


def help_of(path: list[str]) -> str:
    found: click.Command = cli
    context = click.Context(cli, info_name="smart-monitor", max_content_width=110)
    for name in path:
        assert isinstance(found, click.Group)
        child = found.get_command(context, name)
        assert child is not None
        found, context = child, click.Context(child, parent=context, info_name=name)
    return found.get_help(context)


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_explains_itself_with_an_example(path: list[str]) -> None:
    text = help_of(path)
    assert "Example:\n" in text
    assert "smart-monitor" in text.partition("Example:")[2]


def test_options_show_their_defaults() -> None:
    text = help_of(["watch"])
    for default in ("[default: .]", "[default: 0.3]", "[default: 10]", "[default: 500]", "[default: default]"):
        assert default in text


def test_the_module_prints_its_help_and_its_version() -> None:
    found = process("--help")
    assert 0 == found.returncode
    assert "Commands:" in found.stdout
    assert process("--version").stdout.startswith("smart-monitor, version ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_it_beside_settings_in_the_environment(shell: str) -> None:
    found = command(settings={"_SMART_MONITOR_COMPLETE": f"{shell}_source"})
    assert 0 == found.returncode, found.stderr
    assert "_SMART_MONITOR_COMPLETE" in found.stdout
    words = {"_SMART_MONITOR_COMPLETE": "bash_complete", "COMP_WORDS": "smart-monitor sna", "COMP_CWORD": "1"}
    assert "plain,snapshots" in command(settings=words).stdout.split()


MISTAKES: dict[str, tuple[list[str], dict[str, str], str, str]] = {
    # name: (arguments, environment, content of smart_monitor.toml, what is said)
    "no such command": (["watsh"], {}, "", "No such command"),
    "no such option": (["status", "--bse-dir", "."], {}, "", "--base-dir"),
    "bad TOML": (["config", "show"], {}, "a = = 3", "not valid TOML"),
    "nested TOML": (["config", "show"], {}, "a = " + "[" * 100_000, "not valid TOML"),
    "no UTF-8": (["config", "show"], {}, "a = '\udcff'", "not valid TOML"),
    "unknown key": (["config", "show"], {}, "loss_spike_treshold = 1", "did you mean 'loss_spike_threshold'?"),
    "unknown phase key": (["config", "show"], {}, "[[phase]]\nuntil_step = 5\nloss_windoe = 3", "unknown setting 'loss_windoe'"),
    "wrong type": (["config", "show"], {}, "loss_window = 'many'", "loss_window must be a whole number"),
    "out of bounds": (["watch", "--loss-window", "1"], {}, "", "loss_window must be between 4 and 1000"),
    "unknown variable": (["watch"], {"SMART_MONITOR_FOO": "1"}, "", "SMART_MONITOR_FOO is no setting"),
    "misspelt variable": (["watch"], {"SMART_MONITOR_LOS_WINDOW": "5"}, "", "did you mean SMART_MONITOR_LOSS_WINDOW?"),
    "bad variable": (["watch"], {"SMART_MONITOR_LOSS_WINDOW": "x"}, "", "loss_window must be a whole number"),
    "missing config": (["watch", "--config", "nowhere.toml"], {}, "", "does not exist"),
    "config is a directory": (["config", "show", "--config", "."], {}, "", "is a directory"),
    "missing replay": (["replay", "nowhere"], {}, "", "nowhere does not exist"),
    "replay of nothing": (["replay", "."], {}, "", "nothing to replay"),
    "unknown rule": (["rules", "los_spike"], {}, "", "did you mean 'loss_spike'?"),
    "unknown snapshot": (["snapshots", "show", "anomaly_x"], {}, "", "no snapshot is called"),
    "unknown snapshot to verify": (["snapshots", "verify", "anomaly_x"], {}, "", "no snapshot is called"),
    "unknown snapshot to pin": (["snapshots", "pin", "anomaly_x"], {}, "", "no snapshot is called"),
    "verify nowhere": (["snapshots", "verify", "--base-dir", "nowhere"], {}, "", "there is no directory"),
    "list in a place that is not there": (["snapshots", "list", "--out", "nowhere"], {}, "", "there is no directory"),
    "since when": (["snapshots", "list", "--since", "yesterday"], {}, "", "neither an age"),
    "days of nothing": (["snapshots", "prune"], {}, "keep_days_for = ['nan']", "keep_days_for must name reasons and days"),
    "unknown row": (["snapshots", "prune"], {}, "[retention]\nkeep = 'all'", "keep must be one of guide, lean, everything"),
    "init twice": (["init"], {}, "loss_window = 5", "--force replaces it"),
    "init nowhere": (["init", "--base-dir", "nowhere"], {}, "", "No such file or directory"),
    "out in a checkpoint": (["watch", "--out", "out/checkpoint-3/x"], {}, "", "out/checkpoint-3: a trainer rotates"),
    "out in the model": (["snapshot", "--out", "current_model"], {}, "", "current_model: a trainer rotates"),
    "out for several": (["watch", "--base-dir", "a", "--base-dir", "b", "--out", "c"], {}, "", "--out is for one run"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence_and_code_two(tmp_path: Path, mistake: str) -> None:
    arguments, variables, content, said = MISTAKES[mistake]
    if content:
        (tmp_path / "smart_monitor.toml").write_bytes(content.encode("utf-8", "surrogateescape"))
    found = command(*arguments, settings=variables, cwd=tmp_path)
    assert (2, "") == (found.returncode, found.stdout)
    assert said in found.stderr.replace("\n", " ")
    assert "Traceback" not in found.stderr
    assert 1 == sum(line.startswith("Error: ") for line in found.stderr.splitlines())


def test_flag_before_environment_before_config_before_run_file_before_default(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"

    def shown(*arguments: str, **variables: str) -> tuple[Any, str]:
        found = json.loads(command("config", "show", "--json", "--base-dir", tmp_path, *arguments, settings=variables).stdout)
        return found["loss_window"]["value"], found["loss_window"]["from"]

    assert (10, "default") == shown()
    (tmp_path / "smart_monitor.toml").write_text("[judging]\nloss_window = 11\n")
    assert (11, str(tmp_path / "smart_monitor.toml")) == shown()
    other.write_text("loss_window = 12\n")
    assert (12, str(other)) == shown("--config", str(other))
    assert (13, "environment") == shown("--config", str(other), SMART_MONITOR_LOSS_WINDOW="13")
    flagged = shown("--config", str(other), "--loss-window", "14", SMART_MONITOR_LOSS_WINDOW="13")
    assert (14, "command line") == flagged


@pytest.mark.parametrize(
    ("preset", "row"), [("sensitive", (0.1, 5.0, 250)), ("default", (0.3, 10.0, 500)), ("quiet", (0.5, 20.0, 1000))]
)
def test_presets_are_the_three_rows_of_the_guide(tmp_path: Path, preset: str, row: tuple[float, float, int]) -> None:
    found = json.loads(command("config", "show", "--json", "--preset", preset, "--base-dir", tmp_path).stdout)
    keys = ("loss_spike_threshold", "accuracy_drop_threshold", "min_steps_between_saves")
    assert row == tuple(found[key]["value"] for key in keys)


def test_init_writes_a_file_that_changes_nothing_until_it_is_edited(tmp_path: Path) -> None:
    before = command("config", "show", "--base-dir", tmp_path, "--json").stdout
    assert 0 == command("init", "--base-dir", tmp_path).returncode
    assert before == command("config", "show", "--base-dir", tmp_path, "--json").stdout
    text = (tmp_path / "smart_monitor.toml").read_text().partition("# [[phase]]")[0]
    assert all(f"# {key} = " in text for key in KEYS)
    uncommented = "\n".join(
        line[2:] for line in text.splitlines() if line.startswith("# ") and line[2:].partition(" ")[0] in KEYS
    )
    (tmp_path / "smart_monitor.toml").write_text(uncommented)
    found = command("config", "show", "--base-dir", tmp_path)
    assert 0 == found.returncode, found.stderr
    assert 0 == command("init", "--force", "--base-dir", tmp_path).returncode


def test_status_knows_none_watching_stopped_and_dead(tmp_path: Path) -> None:
    assert (1, "none") == (status(tmp_path)[0], status(tmp_path)[1]["health"])
    assert (1, "none") == (status(tmp_path / "nowhere")[0], status(tmp_path / "nowhere")[1]["health"])
    Trainer(tmp_path).train(1)
    with Monitor(tmp_path) as monitor:
        monitor.sees(1)
        until(lambda: status(tmp_path)[0] == 0, "good news")
        until(lambda: "step 1 (loss=0.7" in command("status", "--base-dir", tmp_path).stdout, "the step in the status")
        assert f"process {monitor.process.pid}" in command("status", "--base-dir", tmp_path).stdout
        assert 0 == monitor.stop()
        assert "The monitor was stopped " in command("status", "--base-dir", tmp_path).stdout
        monitor.start()
        until(lambda: status(tmp_path)[1]["vitals"]["pid"] == monitor.process.pid, "its first word of itself")
        monitor.kill()
    assert "died without a word" in command("status", "--base-dir", tmp_path).stdout
    assert (1, "dead") == (status(tmp_path)[0], status(tmp_path)[1]["health"])


def test_status_prints_no_name_that_forges_a_line_or_moves_the_cursor(tmp_path: Path) -> None:
    for one in (tmp_path / "a\x1b[2Jb\nforged: watching", tmp_path / "c\r"):
        one.mkdir()
    for arguments in (("--base-dir", one), ("--runs", f"{tmp_path}/*")):
        said = command("status", *arguments).stdout
        assert not [c for c in said if not c.isprintable() and c != "\n"]
        assert not [line for line in said.splitlines() if line.startswith("forged")]


def test_stop_ends_the_monitor_and_has_nothing_to_end_afterwards(tmp_path: Path) -> None:
    Trainer(tmp_path).train(1)
    with Monitor(tmp_path) as monitor:
        monitor.sees(1)
        found = command("stop", "--base-dir", tmp_path)
        assert (0, f"Stopped process {monitor.process.pid}.\n") == (found.returncode, found.stdout)
        assert 0 == monitor.wait()
    found = command("stop", "--base-dir", tmp_path)
    assert (1, f"No monitor watches {tmp_path}.\n") == (found.returncode, found.stdout)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one snapshot."""
    base = tmp_path_factory.mktemp("run")
    trainer = Trainer(base)
    trainer.write(float("nan"))
    trainer.checkpoint(1)
    time.sleep(1.2)
    assert 0 == Monitor(base, arguments=("--once",)).start().wait()
    return base


@pytest.fixture
def kept(original: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be damaged; the directory of its snapshot."""
    subprocess.run(["cp", "-a", original, tmp_path / "run"], check=True)
    [snapshot] = (tmp_path / "run" / "snapshots").iterdir()
    return snapshot


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a flipped bit": (lambda s: flip(s / "model/checkpoint-1/model.safetensors"), "model/checkpoint-1/model.safetensors"),
    "a truncated file": (
        lambda s: os.truncate(s / "model/checkpoint-1/model.safetensors", 9),
        "model/checkpoint-1/model.safetensors",
    ),
    "a missing file": (lambda s: (s / "training_status.json").unlink(), "training_status.json"),
    "damaged metadata": (lambda s: (s / "metadata.json").write_text("{"), "metadata.json"),
    "an extra file": (lambda s: (s / "model" / "extra").touch(), "model/extra"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_verify_names_what_is_damaged_and_ends_with_one(kept: Path, damage: str) -> None:
    base = kept.parents[1]
    assert 0 == command("snapshots", "verify", "--base-dir", base).returncode
    act, named = DAMAGE[damage]
    act(kept)
    found = command("snapshots", "verify", "--base-dir", base)
    assert 1 == found.returncode
    assert f"     {named}: " in found.stdout
    assert "1 snapshot, 1 bad" in found.stdout
    document = json.loads(command("snapshots", "verify", "--json", "--base-dir", base, kept.name).stdout)
    assert named in [problem["path"] for problem in document[kept.name]]


def test_beside_a_half_deleted_snapshot_the_others_are_listed_and_shown(kept: Path) -> None:
    base = kept.parents[1]
    subprocess.run(["cp", "-a", kept, kept.with_name("anomaly_20200101_000000_nan")], check=True)
    (kept / "metadata.json").unlink()
    found = command("snapshots", "list", "--base-dir", base)
    assert 0 == found.returncode
    assert "anomaly_20200101_000000_nan" in found.stdout
    assert kept.name not in found.stdout
    shown = command("snapshots", "show", "anomaly_2020", "--base-dir", base)
    assert 0 == shown.returncode
    assert "reason          nan" in shown.stdout
    assert "nan" == json.loads(command("snapshots", "show", "anomaly_2020", "--base-dir", base, "--json").stdout)["reason"]
    half = command("snapshots", "show", kept.name, "--base-dir", base)
    assert 2 == half.returncode
    assert "is damaged" in half.stderr


def test_lists_of_nothing_are_no_error(tmp_path: Path) -> None:
    assert "No snapshots" in command("snapshots", "list", "--base-dir", tmp_path).stdout
    assert [] == json.loads(command("snapshots", "list", "--base-dir", tmp_path, "--json").stdout)
    assert 0 == command("snapshots", "verify", "--base-dir", tmp_path).returncode


def doctor(base: Path) -> tuple[int, str]:
    found = command("doctor", "--base-dir", base)
    assert "Traceback" not in found.stderr
    assert all({"state", "what", "fix"} == set(c) for c in json.loads(command("doctor", "--base-dir", base, "--json").stdout))
    return found.returncode, found.stdout


def test_the_doctor_says_what_is_missing_and_how_to_mend_it(tmp_path: Path) -> None:
    code, text = doctor(tmp_path / "nowhere")
    assert (1, True) == (code, "is not there" in text)
    code, text = doctor(tmp_path)
    assert 1 == code
    assert "Start it: nohup smart-monitor watch" in text
    assert "The trainer must write" in text
    assert "no complete checkpoint found" in text


def test_the_doctor_says_how_near_each_rule_is_and_whether_values_vary(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.checkpoint(1)
    trainer.train(1)
    with Monitor(tmp_path) as monitor:
        monitor.sees(1)
        for _ in range(5):
            trainer.write(0.7, accuracy=50.0)
            monitor.sees(trainer.step)
        until(lambda: "loss has been 0.7" in doctor(tmp_path)[1], "the constant loss")
        code, text = doctor(tmp_path)
        assert 0 == code, text
        assert "loss_spike fires above 0.91" in text
        assert "accuracy_drop fires below 40.0" in text
        assert "checkpoint-1" in text
        trainer.write(float("nan"), accuracy="inf")
        until(lambda: "nan 1" in doctor(tmp_path)[1], "the rule that fired")


def test_replay_ends_with_one_where_there_was_trouble(tmp_path: Path) -> None:
    quiet, loud = tmp_path / "quiet.jsonl", tmp_path / "loud.jsonl"
    rows = [json.dumps({"step": n, "loss": 0.7 + 0.01 * (n % 3)}) for n in range(40)]
    quiet.write_text("\n".join(rows) + "\n")
    loud.write_text("\n".join([*rows, '{"step": 40, "loss": NaN}']) + "\n")
    assert 0 == command("replay", quiet).returncode
    found = command("replay", quiet, loud, "--format", "jsonl")
    assert 1 == found.returncode
    assert "nan" in [json.loads(line)["kind"] for line in found.stdout.splitlines()]


def test_rules_document_themselves_as_json_too() -> None:
    found = json.loads(command("rules", "--json").stdout)
    assert {"name", "severity", "snapshot", "documentation"} == set(found[0])


def test_a_pipe_closed_early_is_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m smart_monitor config show --base-dir {tmp_path} | head -c 1", shell=True, env=environment(),
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert "" == done.stderr


@pytest.mark.parametrize(("line", "said"), [
    ("mkdir gone && cd gone && rmdir ../gone && {} status", "Error: the current directory is not there any more"),
    ("{} rules > /dev/full", "Error: what it says can't be written: the disk that it goes to is full."),
])  # fmt: skip
def test_what_the_shell_set_up_is_a_sentence_and_no_traceback(tmp_path: Path, line: str, said: str) -> None:
    done = subprocess.run(
        line.format(f"{sys.executable} -m smart_monitor"), shell=True, capture_output=True, text=True, check=False, cwd=tmp_path,
        env=environment() | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (2, True, 1) == (done.returncode, done.stderr.startswith(said), len(done.stderr.splitlines())), done.stderr


def test_on_a_terminal_that_knows_only_ascii_nothing_breaks(tmp_path: Path) -> None:
    base = tmp_path / os.fsdecode(b"gr\xc3\xb6\xff")
    Trainer(base).train(1)
    for arguments in (["status"], ["doctor"], ["snapshots", "list"]):
        found = process(*arguments, "--base-dir", base, settings={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
        assert "Traceback" not in found.stderr, arguments
