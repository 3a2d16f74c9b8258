"""Writing the databases of MLflow and trackio as they do, as far as it matters to a reader."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path
from typing import Any

MLFLOW = """CREATE TABLE IF NOT EXISTS runs (run_uuid VARCHAR(32) PRIMARY KEY, name VARCHAR(250));
CREATE TABLE IF NOT EXISTS metrics (key VARCHAR(250) NOT NULL, value FLOAT NOT NULL, timestamp BIGINT NOT NULL,
run_uuid VARCHAR(32) NOT NULL, step BIGINT DEFAULT '0' NOT NULL, is_nan BOOLEAN DEFAULT '0' NOT NULL)"""
TRACKIO = """CREATE TABLE IF NOT EXISTS metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL,
timestamp TEXT NOT NULL, run_name TEXT NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL)"""


def opened(path: Path, schema: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(schema)
    return connection


def mlflow(connection: sqlite3.Connection, step: int, values: dict[str, float], run: str = "r") -> None:
    connection.execute("INSERT OR IGNORE INTO runs VALUES (?, ?)", (run, f"run {run}"))
    for name, value in values.items():
        written = 0.0 if math.isnan(value) else max(-1.7976931348623157e308, min(value, 1.7976931348623157e308))
        row = (name, written, 1_700_000_000_000 + step, run, step, math.isnan(value))
        connection.execute("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", row)


def trackio(connection: sqlite3.Connection, step: int, values: dict[str, Any], run: str = "r") -> None:
    row = (run, f"2026-01-01T00:00:00.{step % 1000000:06d}+00:00", f"run {run}", step, json.dumps(values))
    connection.execute("INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES (?, ?, ?, ?, ?)", row)
