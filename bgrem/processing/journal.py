"""What a batch has done, so that one that was killed goes on where it was.

A journal is a file of JSON lines in the folder of the outputs. An output is planned before the first
frame is begun, and noted as done when it has its name. One that was planned and never noted as done
may be there all the same, since the batch may have been killed between the two: it is the batch's own
and is written again.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["Journal", "fingerprint", "named_file"]

NAME = "bgrem-journal"


class Journal:
    """The journals of the folders into which a batch writes.

    Parameters
    ----------
    shard : str
        What tells the journal of a shard from the others': no file is written by two machines.
    """

    def __init__(self, shard: str = "") -> None:
        self._name = f"{NAME}{shard}.jsonl"
        self._folders: dict[Path, dict[str, dict]] = {}

    def was_planned(self, output: Path, key: str) -> bool:
        """Whether an earlier batch with this fingerprint was to write the output."""
        return self._entry(output).get("key") == key

    def result(self, output: Path, key: str) -> dict | None:
        """What was noted of an output that is done, None where it is not.

        Parameters
        ----------
        output : Path
        key : str
            `fingerprint` of what it is made from and how.

        Returns
        -------
        dict or None
            None, too, where the file is not what was written then.
        """
        entry = self._entry(output)
        done = entry.get("key") == key and "result" in entry
        return entry["result"] if done and entry["written"] == _state(output) else None

    def plan(self, output: Path, key: str) -> None:
        """Note that an output is going to be written.

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
        # The line break comes first: a killed batch may have left half a line.
        with (output.parent / self._name).open("a", encoding="ascii") as file:
            file.write("\n" + json.dumps(entry))


def fingerprint(path: Path, options: Mapping, *, version: str, model: str) -> str:
    """One short text for an input and all that its output depends on.

    Parameters
    ----------
    path : Path
        The input; its size and its time of change count.
    options : mapping
        Files that are named in it count with their size and time, too.
    version, model : str
        Of the program, and the hash of the model.

    Returns
    -------
    str
        Hexadecimal.

    Raises
    ------
    OSError
        If the input is not there.
    """
    used = {name: (_told(value), _state(named_file(value))) for name, value in options.items()}
    whole = [str(path.absolute()), _state(path), used, version, model]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]


def _told(value: object) -> str:
    """An option's value as text; that of an array does not show all of it."""
    whole = getattr(value, "tobytes", None)
    return hashlib.sha256(whole()).hexdigest() if whole else str(value)


def named_file(value: object) -> Path:
    """The file that an option names, FILE or FILE[HDU], if it names one."""
    return Path(re.sub(r"\[[^\]]*\]$", "", str(value)))


def _state(path: Path) -> list[int] | None:
    """Size and time of change of a file, None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns]


def _read(folder: Path) -> dict[str, dict]:
    """The last entry of each output, from the journals of all shards."""
    entries: dict[str, dict] = {}
    for path in sorted(folder.glob(f"{NAME}*.jsonl")):
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            entry = _parsed(line)
            # Planned again and killed again: what was done before still is.
            if entry and not ("result" not in entry and _is_done(entries, entry)):
                entries[entry["output"]] = entry
    return entries


def _is_done(entries: dict[str, dict], entry: dict) -> bool:
    before = entries.get(entry["output"], {})
    return before.get("key") == entry["key"] and "result" in before


def _parsed(line: str) -> dict | None:
    """An entry, None where the line was cut off."""
    try:
        entry = json.loads(line)
        return entry if {"output", "key"} <= entry.keys() else None
    except (ValueError, AttributeError):
        return None
