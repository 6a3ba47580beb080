"""What becomes of an image that is asked to be done."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Failure", "Result"]


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
    seconds : float
        From opening the input to the renamed output.
    warnings : tuple of str
        What the reader and the model noticed.
    report, plot : Path or None
        The page and the picture, where they were asked for.
    resumed : bool
        Whether an earlier run has written it.
    """

    input: Path
    output: Path
    model: str
    level: float
    rms: float
    norm: float
    seconds: float
    warnings: tuple[str, ...] = ()
    report: Path | None = None
    plot: Path | None = None
    resumed: bool = False

    def __str__(self) -> str:
        return (
            f"{self.output}  model={self.model}  level={self.level:.6g}  rms={self.rms:.4g}  "
            f"norm={self.norm:g}  seconds={self.seconds:.2f}"
        )


@dataclass(frozen=True)
class Failure:
    """One input that could not be done, and why in one sentence."""

    input: Path
    message: str
