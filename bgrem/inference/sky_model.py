"""A sky network that is ready to run."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from bgrem.inference.engine import ModelError, cores
from bgrem.inference.onnxruntime_engine import open_session
from bgrem.options import ERROR_SIDES
from bgrem.sky.blocks import BLOCK, BlockStatistics
from bgrem.sky.measured import CellSky
from bgrem.sky.network_input import SkyInput, network_input

__all__ = ["SkyModel"]

# Flips along y, and whether the axes change places: with both flips along x all orientations of an image.
PAIRS = tuple((y, turned) for y in (1, -1) for turned in (False, True))


class SkyModel:
    """A sky network, run on ONNX Runtime in float32.

    Parameters
    ----------
    path : path
        An ONNX file that `bgrem-train` wrote.
    threads : int, optional
        Default: the number of cores.

    Raises
    ------
    ModelError
        If the file cannot be read, or is not such a network.
    """

    def __init__(self, path: str | os.PathLike, *, threads: int | None = None) -> None:
        self.path = Path(path)
        try:
            self._content = self.path.read_bytes()
        except OSError as error:
            raise ModelError(f"the sky network {path} cannot be read: {error.strerror}") from None
        self._threads = threads or cores()

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the file."""
        return hashlib.sha256(self._content).hexdigest()

    @cached_property
    def _session(self):
        try:
            session = open_session(self._content, threads=1)
        except ModelError:
            raise ModelError(f"the sky network {self.path} cannot be used") from None
        entries = session.get_modelmeta().custom_metadata_map
        if entries.get("kind") != "sky" or len(session.get_inputs()) != 1:
            raise ModelError(f"{self.path} is not a sky network")
        return session

    @cached_property
    def _error_factors(self) -> dict[int, list[float]]:
        """Of the network's error for means over `ERROR_SIDES`, by how many blocks of 8 pixels a side has."""
        text = self._session.get_modelmeta().custom_metadata_map.get("error_factors")
        if text is None:
            return {1: [1.0] * len(ERROR_SIDES)}
        return {int(gathering): factors for gathering, factors in json.loads(text).items()}

    def __call__(self, statistics: BlockStatistics) -> CellSky:
        """The sky of a frame, the mean of those of its eight orientations.

        Parameters
        ----------
        statistics : BlockStatistics
            With an even number of blocks along each axis, one of them good.

        Returns
        -------
        `~bgrem.sky.measured.CellSky`
            In the units of the statistics.
        """
        factors = self._error_factors  # opens the session once, before the threads do
        # One thread each: sums that several threads share are not the same for every number of them.
        with ThreadPoolExecutor(self._threads, "sky") as pool:
            found = list(pool.map(partial(self._of_pair, statistics.planes), PAIRS))
        mean = np.mean(found, axis=(0, 1), dtype=np.float64).astype(np.float32)
        background, rms, log_error, chance = mean
        gathering = max(k for k in factors if k <= max(1, statistics.side // BLOCK))
        first, *_ = of_sides = factors[gathering]
        error = np.float32(first) * np.exp(log_error)
        return CellSky(background, rms, error, chance, tuple(f / first for f in of_sides))

    def _of_pair(self, statistics: np.ndarray, orientation: tuple[int, bool]) -> list[np.ndarray]:
        """The sky of a frame from two of its orientations, at once: of a small one each call takes as long."""
        y, turned = orientation
        flipped = [statistics[:, ::y, ::x] for x in (1, -1)]
        planes = [p.swapaxes(1, 2) if turned else p for p in flipped]
        given = [network_input(one) for one in planes]
        found = self._session.run(None, {"x": np.stack([one.planes for one in given])})[0]
        shape = tuple(n // 2 for n in planes[0].shape[1:])
        skies = [_in_units(*one, shape) for one in zip(found, given, strict=True)]
        skies = [sky.swapaxes(1, 2) if turned else sky for sky in skies]
        return [sky[:, ::y, ::x] for sky, x in zip(skies, (1, -1), strict=True)]


def _in_units(out: np.ndarray, given: SkyInput, shape: tuple[int, int]) -> np.ndarray:
    """What a network gives for the cells of a frame, in the units of its statistics."""
    top, left = (n // 2 for n in given.first)
    out = out[:, top : top + shape[0], left : left + shape[1]]
    out[0] = out[0] * given.unit + given.level
    out[1] *= given.unit
    out[2] += np.log(given.unit)
    out[3] = 1 / (1 + np.exp(-out[3]))
    return out
