"""The outcome of each image: a result or a failure, and the log with one JSON object per image."""

import json
import math
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bgrem.io.reading import is_fits_name
from bgrem.storage.names import home_path, visible_text

__all__ = ["Failure", "Log", "Result", "record", "restored"]


@dataclass(frozen=True)
class Result:
    """One image that has been written.

    Attributes
    ----------
    input, output : Path
    model : str
    level, rms : float
        Median sky level and its rms in data units; the median over the planes of a cube.
    norm : float
        Normalisation factor as given; 0 where the rms map was estimated.
    fwhm : float
        Of the stars, in pixels; that of the first plane of a cube.
    fwhm_from : str or None
        Where it is from, see `~bgrem.separation.Provenance`.
    seconds : float
        Time from opening the input to renaming the output.
    warnings : tuple of str
        Warnings of the reader and of the model.
    report, plot, catalog : Path or None
        The page, the picture and the catalogue, if the user asked for them.
    resumed : bool
        Whether an earlier run wrote the output.
    """

    input: Path
    output: Path
    model: str
    level: float
    rms: float
    norm: float
    fwhm: float
    fwhm_from: str | None
    seconds: float
    warnings: tuple[str, ...] = ()
    report: Path | None = None
    plot: Path | None = None
    catalog: Path | None = None
    resumed: bool = False

    def __str__(self) -> str:
        return (
            f"{visible_text(self.output)}  model={self.model}  level={self.level:.6g}  rms={self.rms:.4g}  "
            f"norm={self.norm:g}  seconds={self.seconds:.2f}"
        )


@dataclass(frozen=True)
class Failure:
    """One input that could not be processed; the message is one sentence."""

    input: Path
    message: str


class Log(AbstractContextManager):
    """A file of JSON lines, one per image, each written when the image is done.

    Parameters
    ----------
    path : path
        A log of an earlier run is replaced.

    Raises
    ------
    ValueError
        If the name is that of an image, or an existing file is not a log.
    OSError
        If it cannot be written.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        path = home_path(path)
        if is_fits_name(path) or _holds_something_else(path):
            raise ValueError(f"{path}: is not a log and is not overwritten")
        self._file = path.open("w", encoding="ascii")

    def write(self, outcome: Result | Failure) -> None:
        """Add the outcome of an image."""
        self._file.write(json.dumps(record(outcome)) + "\n")
        self._file.flush()

    def __exit__(self, *_) -> None:
        self._file.close()


def record(outcome: Result | Failure) -> dict:
    """The outcome of an image as values that JSON can hold; None for those that do not exist.

    They are file, output, status ("done", "failed", or "skipped" if an earlier run did it), seconds, model,
    sky, rms, norm, fwhm, fwhm_from, warnings, error, report and catalog.
    """
    if isinstance(outcome, Failure):
        return {
            "file": str(outcome.input), "output": None, "status": "failed", "seconds": None,
            "model": None, "sky": None, "rms": None, "norm": None, "fwhm": None, "fwhm_from": None,
            "warnings": [], "error": outcome.message, "report": None, "catalog": None,
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
        "fwhm": _number(outcome.fwhm),
        "fwhm_from": outcome.fwhm_from,
        "warnings": list(outcome.warnings),
        "error": None,
        "report": None if outcome.report is None else str(outcome.report),
        "catalog": None if outcome.catalog is None else str(outcome.catalog),
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
        fwhm=_or_nan(entry.get("fwhm")),
        fwhm_from=entry.get("fwhm_from"),
        seconds=entry["seconds"],
        warnings=tuple(entry["warnings"]),
        report=None if entry["report"] is None else Path(entry["report"]),
        catalog=None if entry.get("catalog") is None else Path(entry["catalog"]),
        resumed=True,
    )


def _number(value: float) -> float | None:
    """None for NaN, which JSON cannot hold."""
    return float(value) if math.isfinite(value) else None


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _holds_something_else(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(1) not in (b"", b"{")
