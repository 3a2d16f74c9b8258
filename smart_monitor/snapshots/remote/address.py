"""Addresses of remotes: what they need installed, and how they are shown. Imports nothing that they need."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec

_NEEDS = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs", "az": "adlfs", "adl": "adlfs",
    "sftp": "paramiko", "ssh": "paramiko", "smb": "smbprotocol", "oci": "ocifs", "oss": "ossfs", "hf": "huggingface_hub",
}  # fmt: skip
_KEPT_SECRET = re.compile(r"(?i)SECRET|PASSW|TOKEN|ACCESS_KEY|ACCOUNT_KEY|CONNECTION_STRING|SAS")


def lacking(url: str) -> str:
    """One sentence if what the address needs is not installed, with the command that installs it; else empty."""
    missing = [name for name in ("fsspec", _NEEDS.get(scheme_of(url), "fsspec")) if find_spec(name) is None]
    if not missing:
        return ""
    also = f' "{missing[-1]}"' if missing[-1] not in ("fsspec", "s3fs") else ""
    return f'Remote copies to {scheme_of(url)}:// need {missing[-1]}: pip install "smart-monitor[remote]"{also}'


def scheme_of(url: str) -> str:
    return url.partition("://")[0]


def shown_as(url: str) -> str:
    """The address for a person, without whatever stands before an @ (nothing that could be secret is accepted there)."""
    return re.sub(r"//[^/]*@", "//", url)


def run_folder(run: str) -> str:
    """The name of a run as one part of a remote path: without what file systems and stores give a meaning to."""
    text = run.encode("utf-8", "replace").decode()
    safe = "".join("_" if c in '/\\?*#[]%"' or not c.isprintable() else c for c in text)[:200]
    return safe if safe.strip(". ") else "run"


def without_secrets(text: str) -> str:
    """One line for a person, at most 300 characters, in which no secret of our environment stands."""
    for name, value in os.environ.items():
        if len(value) >= 6 and _KEPT_SECRET.search(name):
            text = text.replace(value, "***")
    return re.sub(r"//[^/\s]*@", "//", " ".join(text.split()))[:300]
