"""The journal of a batch: a batch that was killed resumes from it.

A journal is a file of JSON lines in the folder of the outputs. All outputs are planned before the
first image is processed, and each is noted as done after it has its final name. A batch may be killed
between the two. An output that is planned but not noted as done is therefore written again.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from bgrem.storage.names import named_hdu

__all__ = ["Journal", "fingerprint", "named_file"]

JOURNAL_NAME = "bgrem-journal"


class Journal:
    """The journals of the folders of the outputs of a batch.

    Parameters
    ----------
    shard : str
        Part of the file name: each shard writes its own journal.
    """

    def __init__(self, shard: str = "") -> None:
        self._name = f"{JOURNAL_NAME}{shard}.jsonl"
        self._folders: dict[Path, dict[str, dict]] = {}

    def was_planned(self, output: Path, key: str) -> bool:
        """Whether an earlier batch planned this output with the same fingerprint."""
        return self._entry(output).get("key") == key

    def result(self, output: Path, key: str) -> dict | None:
        """The result that was noted for an output, None if it is not done or has changed since.

        ``key`` is the `fingerprint` of the input and the options.
        """
        entry = self._entry(output)
        done = entry.get("key") == key and "result" in entry
        return entry["result"] if done and entry["written"] == _state(output) else None

    def plan(self, output: Path, key: str) -> None:
        """Note that an output will be written.

        Raises
        ------
        OSError
            If the journal cannot be written.
        """
        output.parent.mkdir(parents=True, exist_ok=True)
        self._append(output, {"output": output.name, "key": key})

    def note(self, output: Path, key: str, result: Mapping) -> None:
        """Note that an output is done.

        Raises
        ------
        OSError
            If the journal cannot be written.
        """
        written = _state(output)
        self._append(
            output, {"output": output.name, "key": key, "written": written, "result": dict(result)}
        )

    def _entry(self, output: Path) -> dict:
        if output.parent not in self._folders:
            self._folders[output.parent] = _read(output.parent)
        return self._folders[output.parent].get(output.name, {})

    def _append(self, output: Path, entry: dict) -> None:
        # The line break comes first, because a killed batch may leave half a line.
        with (output.parent / self._name).open("a", encoding="ascii") as file:
            file.write("\n" + json.dumps(entry))


def fingerprint(path: Path, options: Mapping, *, version: str, model: str) -> str:
    """A hexadecimal hash of an input and of all that its output depends on.

    The input, and files that options name, are identified by size and modification time. ``version`` is
    that of bgrem, ``model`` the hash of the model. Raises OSError if the input cannot be found.
    """
    used = {
        name: (_option_text(value), _state(named_file(value))) for name, value in options.items()
    }
    whole = [str(path.absolute()), _state(named_file(path)), used, version, model]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]


def _option_text(value: object) -> str:
    """The value of an option as text; the text of an array would be shortened, so it is hashed."""
    whole = getattr(value, "tobytes", None)
    return hashlib.sha256(whole()).hexdigest() if whole else str(value)


def named_file(value: object) -> Path:
    """The file that an option may name, as FILE or FILE[HDU]."""
    return named_hdu(str(value))[0]


def _state(path: Path) -> list[int] | None:
    """Size and modification time of a file, None if there is no file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns]


def _read(folder: Path) -> dict[str, dict]:
    """The last entry of each output, from the journals of all shards."""
    entries: dict[str, dict] = {}
    for path in sorted(folder.glob(f"{JOURNAL_NAME}*.jsonl")):
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            entry = _parsed(line)
            # An output that was done stays done if it was planned again and the batch was killed.
            if entry and not ("result" not in entry and _is_done(entries, entry)):
                entries[entry["output"]] = entry
    return entries


def _is_done(entries: dict[str, dict], entry: dict) -> bool:
    before = entries.get(entry["output"], {})
    return before.get("key") == entry["key"] and "result" in before


def _parsed(line: str) -> dict | None:
    """An entry, None if the line is incomplete."""
    try:
        entry = json.loads(line)
        return entry if {"output", "key"} <= entry.keys() else None
    except (ValueError, AttributeError):
        return None
