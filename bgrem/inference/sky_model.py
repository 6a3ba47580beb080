"""A sky network that is ready to run."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from bgrem.inference.engine import ModelError, cores, first_line, is_out_of_memory
from bgrem.options import ERROR_SIDES
from bgrem.sky.blocks import BLOCK, BlockStatistics
from bgrem.sky.measured import CellSky
from bgrem.sky.network_input import network_input

__all__ = ["SkyModel"]

# Flips along y and along x, and whether the axes change places: all orientations of an image.
ORIENTATIONS = tuple((y, x, turned) for y in (1, -1) for x in (1, -1) for turned in (False, True))


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
        import onnxruntime  # takes a tenth of a second, which `import bgrem` must not

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_mem_pattern = False
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(
                self._content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # noqa: BLE001 - the exceptions of the runtime share no base
            if is_out_of_memory(error):
                raise MemoryError(first_line(error)) from None
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
            found = list(pool.map(partial(self._of_oriented, statistics.planes), ORIENTATIONS))
        background, rms, log_error, chance = np.mean(found, axis=0, dtype=np.float64).astype(
            np.float32
        )
        gathering = max(k for k in factors if k <= max(1, statistics.side // BLOCK))
        first, *_ = of_sides = factors[gathering]
        error = np.float32(first) * np.exp(log_error)
        return CellSky(background, rms, error, chance, tuple(f / first for f in of_sides))

    def _of_oriented(
        self, statistics: np.ndarray, orientation: tuple[int, int, bool]
    ) -> np.ndarray:
        """The sky of a frame from one of its orientations."""
        y, x, turned = orientation
        planes = statistics[:, ::y, ::x]
        found = self._of_one(planes.swapaxes(1, 2) if turned else planes)
        return (found.swapaxes(1, 2) if turned else found)[:, ::y, ::x]

    def _of_one(self, statistics: np.ndarray) -> np.ndarray:
        given = network_input(statistics)
        out = self._session.run(None, {"x": given.planes[None]})[0][0]
        top, left = (n // 2 for n in given.first)
        by, bx = (n // 2 for n in statistics.shape[1:])
        out = out[:, top : top + by, left : left + bx]
        out[0] = out[0] * given.unit + given.level
        out[1] *= given.unit
        out[2] += np.log(given.unit)
        out[3] = 1 / (1 + np.exp(-out[3]))
        return out
