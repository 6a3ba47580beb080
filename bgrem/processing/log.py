"""What became of each image, for programs: one JSON object a line."""

import json
import math
import os
from contextlib import AbstractContextManager
from pathlib import Path

from bgrem.io.reading import is_fits_name
from bgrem.processing.outcome import Failure, Result

__all__ = ["Log", "record", "restored"]


class Log(AbstractContextManager):
    """A file of JSON lines, one for each image, each written when the image is done.

    Parameters
    ----------
    path : path
        A log of an earlier run is replaced.

    Raises
    ------
    ValueError
        If the name is that of an image, or the file there is no log.
    OSError
        If it cannot be written.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        path = Path(path)
        if is_fits_name(path) or _holds_something_else(path):
            raise ValueError(f"{path}: is no log, and is not overwritten")
        self._file = path.open("w", encoding="ascii")

    def write(self, outcome: Result | Failure) -> None:
        """Add what became of an image."""
        self._file.write(json.dumps(record(outcome)) + "\n")
        self._file.flush()

    def __exit__(self, *_) -> None:
        self._file.close()


def record(outcome: Result | Failure) -> dict:
    """What became of an image, as values that JSON has.

    Parameters
    ----------
    outcome : Result or Failure

    Returns
    -------
    dict
        file, output, status ("done", "skipped" where an earlier run has done it, "failed"), seconds,
        model, sky, rms, norm, warnings, error, report; None where there is no such thing.
    """
    if isinstance(outcome, Failure):
        return {
            "file": str(outcome.input), "output": None, "status": "failed", "seconds": None,
            "model": None, "sky": None, "rms": None, "norm": None, "warnings": [],
            "error": outcome.message, "report": None,
        }  # fmt: skip
    return {
        "file": str(outcome.input),
        "output": str(outcome.output),
        "status": "skipped" if outcome.resumed else "done",
        "seconds": round(outcome.seconds, 3),
        "model": outcome.model,
        "sky": _number(outcome.level),
        "rms": _number(outcome.rms),
        "norm": _number(outcome.norm),
        "warnings": list(outcome.warnings),
        "error": None,
        "report": None if outcome.report is None else str(outcome.report),
    }


def restored(entry: dict) -> Result:
    """The result of an earlier run, from its `record`."""
    return Result(
        input=Path(entry["file"]),
        output=Path(entry["output"]),
        model=entry["model"],
        level=_or_nan(entry["sky"]),
        rms=_or_nan(entry["rms"]),
        norm=_or_nan(entry["norm"]),
        seconds=entry["seconds"],
        warnings=tuple(entry["warnings"]),
        report=None if entry["report"] is None else Path(entry["report"]),
        resumed=True,
    )


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if math.isfinite(value) else None


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _holds_something_else(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(1) not in (b"", b"{")
