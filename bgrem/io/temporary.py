"""Temporary names of files that are being written, derived from their final names."""

import hashlib
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["remove_leftovers", "temporary_path"]


def temporary_path(path: Path) -> Path:
    """A temporary name, in the same folder, for a file that is not complete yet.

    The suffix is kept, so that other programs recognise the format.
    """
    token = f"{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f"{_beginning(path)}{token}{''.join(path.suffixes[-2:])}")


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove temporary files of killed processes; no process may be writing these files.

    Parameters
    ----------
    paths : iterable of Path
        The final names.
    """
    beginnings: dict[Path, set[str]] = {}
    for path in paths:
        beginnings.setdefault(path.parent, set()).add(_beginning(path))
    for folder, own in beginnings.items():
        length = len(next(iter(own)))
        with suppress(OSError):
            for file in folder.iterdir():
                if file.name[:length] in own:
                    file.unlink(missing_ok=True)


def _beginning(path: Path) -> str:
    digest = hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).hexdigest()
    return f".bgrem-{digest[:12]}-"
