"""Files on their way: beside the place that they will take, under names that tell which it is."""

import hashlib
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["remove_leftovers", "temporary_path"]


def temporary_path(path: Path) -> Path:
    """A name, in the same folder, for a file until it is complete.

    The suffix is kept: tools that look at a file half-way know what it is.

    Parameters
    ----------
    path : Path
        Where the file will be.

    Returns
    -------
    Path
    """
    token = f"{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f"{_beginning(path)}{token}{''.join(path.suffixes[-2:])}")


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove what processes that were killed have left of files, which nobody may be writing.

    Parameters
    ----------
    paths : iterable of Path
        Where the files would have been.
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
