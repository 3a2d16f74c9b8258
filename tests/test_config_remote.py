"""Where snapshots are sent is a setting that others must not make, and that never holds a secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smart_monitor.config import ConfigError, Settings, resolve
from smart_monitor.configfile import load, toml

SECRET = "kJ8s0ver9secret"


def remote(value: object) -> str:
    return resolve([("command line", {"remote": value})])[0].remote


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("s3://bucket/pre/fix", "s3://bucket/pre/fix"), ("s3://bucket/pre/", "s3://bucket/pre"), ("gs://b", "gs://b"),
        ("/mnt/backup", "file:///mnt/backup"), ("file:///mnt/back up".replace(" ", "_"), "file:///mnt/back_up"),
        ("sftp://me@host/dir", "sftp://me@host/dir"), ("", ""),
    ],
)  # fmt: skip
def test_addresses_that_are_taken(given: str, kept: str):
    assert remote(given) == kept


@pytest.mark.parametrize(
    "given",
    [
        f"s3://AKID:{SECRET}@bucket/x", f"s3://{SECRET}@bucket", f"sftp://me:{SECRET}@host/dir", f"https://host/x?sig={SECRET}",
        f"simplecache::s3://{SECRET}", f"bucket/{SECRET}", f"s3://a/b\n{SECRET}", f"s3://b/*{SECRET}", 3, f"sftp://a/b:{SECRET}@c",
        f"s3://b/x#{SECRET}", "file://", "file:///", "/", "local://",
    ],
)  # fmt: skip
def test_addresses_that_are_refused_are_not_repeated(given: object):
    with pytest.raises(ConfigError) as refused:
        remote(given)

    assert str(refused.value).startswith("command line: remote must ")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"key": SECRET}, {"secret": SECRET}, {"token": SECRET}, {"client_kwargs": {"aws_secret_access_key": SECRET}},
        {"password": SECRET}, {"endpoint_url": f"http://me:{SECRET}@host"}, {"account_key": SECRET}, SECRET,
    ],
)  # fmt: skip
def test_options_hold_no_credentials_and_what_is_refused_is_not_repeated(options: object):
    with pytest.raises(ConfigError, match="remote_options") as refused:
        resolve([("x", {"remote_options": options})])

    assert SECRET not in str(refused.value)


def test_options_are_a_table_in_toml(tmp_path: Path):
    given = 'remote = "s3://b/p"\n[remote_options]\nendpoint_url = "http://127.0.0.1:9000"\nclient_kwargs = { verify = false }\n'
    (tmp_path / "smart_monitor.toml").write_text(given)
    (tmp_path / "smart_monitor.toml").chmod(0o600)

    settings, origin = load(tmp_path, {}, None, {})

    assert settings.remote_options == {"endpoint_url": "http://127.0.0.1:9000", "client_kwargs": {"verify": False}}
    assert toml(settings.remote_options) == '{ endpoint_url = "http://127.0.0.1:9000", client_kwargs = { verify = false } }'
    assert origin["remote"] == str(tmp_path / "smart_monitor.toml")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_has_no_say_in_where_snapshots_are_sent(tmp_path: Path, mode: int):
    path = tmp_path / "smart_monitor.toml"
    path.write_text("loss_window = 12\n")
    path.chmod(mode)
    assert load(tmp_path, {}, None, {})[0].loss_window == 12

    path.write_text('remote = "s3://theirs/x"\n')
    with pytest.raises(ConfigError, match=r"remote is honoured only from a file of our own that nobody else can write"):
        load(tmp_path, {}, None, {})

    path.chmod(0o644)
    assert load(tmp_path, {}, None, {})[0].remote == "s3://theirs/x"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_has_no_say_in_where_snapshots_are_sent(tmp_path: Path):
    path = tmp_path / "smart_monitor.toml"
    path.write_text('remote = "s3://theirs/x"\n')
    path.chmod(0o600)
    os.chown(path, 12345, -1)

    with pytest.raises(ConfigError, match="honoured only"):
        load(tmp_path, {}, None, {})


def test_without_a_word_nothing_is_sent_anywhere():
    assert Settings().remote == ""
