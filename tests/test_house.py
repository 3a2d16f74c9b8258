"""The house itself: files short and explained, commands that the README names exist, the wheel is whole."""

from __future__ import annotations

import ast
import functools
import os
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import smart_monitor
from tests.command_line import ROOT, command

PACKAGE = ROOT / "smart_monitor"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [*MODULES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "scripts").rglob("*.py"))]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_no_source_file_is_longer_than_400_lines(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", [m for m in MODULES if m.name != "__main__.py"], ids=named)
def test_every_module_says_what_it_is_for(path: Path):
    module = ast.parse(path.read_text(encoding="utf-8"))
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]

    # A rule's documentation is its class's, and there is one rule to a file.
    assert ast.get_docstring(module) or (path.parent.name == "rules" and len(classes) == 1 and ast.get_docstring(classes[0]))


def test_no_module_is_called_utils():
    assert [p for p in SOURCES if re.search(r"util|helper|misc|common", p.stem)] == []


@pytest.mark.parametrize("path", sorted((PACKAGE / "rules").glob("[!_]*.py")), ids=named)
def test_a_rule_imports_no_other_rule(path: Path):
    rules = {p.stem for p in (PACKAGE / "rules").glob("[!_]*.py")}
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.removeprefix("smart_monitor.rules.") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("smart_monitor.rules")):
            imported |= {(node.module or "").removeprefix("smart_monitor.rules.")} | {alias.name for alias in node.names}

    assert imported & rules == set()


def test_the_version_stands_first_in_the_changelog():
    versions = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert versions[0] == smart_monitor.__version__


def test_the_tests_versions_are_pinned_for_everything_the_package_and_its_checks_ask_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["dev"], *extras["fast"], *extras["remote"], *extras["s3-server"]]
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()}

    assert {re.split(r"[<>=~! \[]", name)[0].lower() for name in asked} - pinned == set()


def test_what_starts_with_a_shebang_can_be_executed_and_nothing_else_can():
    files = [
        p for folder in ("scripts", ".ci") for p in (ROOT / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts
    ]
    wrong = [named(p) for p in files if os.access(p, os.X_OK) != p.read_bytes().startswith(b"#!")]

    assert wrong == []


def test_the_command_line_loads_no_numpy_and_no_torch():
    names = "('numpy', 'torch', 'pandas', 'safetensors.numpy', 'safetensors.torch')"
    code = f"import smart_monitor.cli, smart_monitor.daemon, sys; print([m for m in {names} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_wheel_holds_the_package_whole_and_nothing_else(tmp_path: Path):
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, check=True, cwd=ROOT, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())

    assert wheel.name.startswith(f"smart_monitor-{smart_monitor.__version__}-py3-none-any")
    assert "smart_monitor/py.typed" in names
    assert {named(m) for m in MODULES} <= names
    assert {n.split("/")[0] for n in names} == {"smart_monitor", f"smart_monitor-{smart_monitor.__version__}.dist-info"}


# ------------------------------------------------------------------------------- the README's commands


def shell_lines(text: str) -> Iterator[str]:
    """The commands in the fenced shell blocks of a Markdown text, continued lines joined, prompts and output left out."""
    for language, body in re.findall(r"^```(\w+)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language in ("sh", "bash", "shell", "console"):
            lines = body.replace("\\\n", " ").splitlines()
            yield from (line.removeprefix("$ ") for line in lines if language != "console" or line.startswith("$ "))


def invocations(line: str) -> Iterator[list[str]]:
    """The arguments of each call of ours in one line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    call: list[str] = []
    for word in [*lexer, ";"]:
        if word and set(word) <= set(";|&<>()"):
            for ours in (["smart-monitor"], ["python", "-m", "smart_monitor"], ["python3", "-m", "smart_monitor"]):
                for at in range(len(call)):
                    if call[at : at + len(ours)] == ours:
                        yield call[at + len(ours) :]
            call = []
        else:
            call.append(word)


@functools.cache
def help_of(*path: str) -> str:
    done = command(*path, "--help")
    assert 0 == done.returncode, done.stderr
    return done.stdout


def unknown(arguments: list[str]) -> list[str]:
    """The subcommands and flags of a call that its --help does not know."""
    path: list[str] = []
    for word in arguments:
        listed = help_of(*path).partition("Commands:")[2]
        if not listed or word.startswith("-"):
            break
        if not re.search(rf"^  {re.escape(word)}\b", listed, re.MULTILINE):
            return [word]
        path.append(word)
    flags = [word.partition("=")[0] for word in arguments if re.match(r"--?[a-zA-Z]", word)]
    pages = help_of(*path) + ("" if path else help_of("watch"))
    return [flag for flag in flags if not re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", pages)]


def test_a_continued_line_and_a_pipe_are_read_as_shell_reads_them():
    text = "```sh\nnohup smart-monitor watch \\\n  --once | grep x; python3 -m smart_monitor status\n```\n"

    assert [list(invocations(line)) for line in shell_lines(text)] == [[["watch", "--once"], ["status"]]]


def test_every_command_and_flag_in_the_readme_exists():
    lines = list(shell_lines((ROOT / "README.md").read_text(encoding="utf-8")))
    calls = [call for line in lines for call in invocations(line)]

    assert calls
    assert {" ".join(call): wrong for call in calls if (wrong := unknown(call))} == {}
