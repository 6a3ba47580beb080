"""Files under temporary names, derived from their final names, until they are complete."""

import bz2
import gzip
import hashlib
import io
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from bgrem.storage.opening import FitsError

__all__ = ["remove_leftovers", "remove_orphans", "replacing", "temporary_path"]

COPIED = 1 << 22  # bytes that are compressed at once
PACKERS = {
    # Without a name and a time, so that equal images give equal files.
    ".gz": lambda file: gzip.GzipFile("", "wb", compresslevel=4, fileobj=file, mtime=0),
    ".bz2": lambda file: bz2.BZ2File(file, "wb"),
}


@contextmanager
def replacing(path: Path, *, overwrite: bool) -> Iterator[io.BufferedIOBase]:
    """A seekable stream to a temporary file in the folder of ``path``, renamed to it when complete.

    What is written is compressed at the end if the suffix is .gz or .bz2. The folder is created if missing.
    Raises FitsError if ``path`` exists and is not to be replaced, or cannot be written.
    """
    if path.exists() and not overwrite:
        raise FitsError(f"{path}: exists already (use --overwrite to replace it)")
    temporary = temporary_path(path)
    remove_orphans(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            if packer := PACKERS.get(path.suffix.lower()):
                with tempfile.TemporaryFile(dir=path.parent) as plain:
                    yield plain
                    plain.seek(0)
                    with packer(file) as packed:
                        shutil.copyfileobj(plain, packed, COPIED)
            else:
                yield file
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise FitsError(f"{path}: cannot be written ({error.strerror or error})") from None
        raise


def temporary_path(path: Path) -> Path:
    """A temporary name, in the same folder, for a file that is not complete yet.

    The suffix is kept, so that other programs recognise the format.
    """
    token = f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f"{_beginning(path)}{token}{''.join(path.suffixes[-2:])}")


@cache  # a folder may hold many files
def remove_orphans(folder: Path) -> None:
    """Remove the temporary files in a folder whose processes have ended; those of other machines stay."""
    own = re.compile(rf"\.bgrem-[0-9a-f]{{12}}-{_machine()}-(\d+)-[0-9a-f]{{8}}")
    with suppress(OSError):
        for file in folder.iterdir():
            match = own.match(file.name)
            if match and not _is_running(int(match[1])):
                file.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name != "posix":
        return True  # not known without harm
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


@cache
def _machine() -> str:
    """A few digits that identify this machine, or this container, whose processes have their own numbers."""
    name = socket.gethostname()
    with suppress(OSError):
        name += str(os.stat("/proc/self/ns/pid").st_ino)
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:6]


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
