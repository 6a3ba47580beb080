"""Files of frames of one detector in, the file of its defects out."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bgrem.arrays.rows import MAPPED, Memory, Scratch
from bgrem.defects.exposures import DetectorFrame, read_exposure
from bgrem.defects.map_file import writing_map
from bgrem.defects.measure import LEAST_CHANCE, check_count, measure_defects
from bgrem.inference.model import Model, optical_model
from bgrem.io.reading import FitsError, FitsImage, read_image
from bgrem.io.readout import Detector, detector_of
from bgrem.processing.paths import check_output, existing_folder, first_picture, pictures_of
from bgrem.storage.names import home_path, named_hdu

__all__ = ["MEMORY_LIMIT", "CameraMap", "CameraOptions", "detectors_in", "find_defects"]

MEMORY_LIMIT = 2e9  # bytes: what does not fit is kept in files


@dataclass(frozen=True)
class CameraMap:
    """What was written.

    Attributes
    ----------
    output : Path
    summaries : tuple of str
        One for each HDU.
    warnings : tuple of str
        With the HDU, where there are several.
    """

    output: Path
    summaries: tuple[str, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.output}: {'; '.join(self.summaries)}"


def detectors_in(path: str | os.PathLike, hdu: int | str | None = None) -> list[Detector]:
    """The detectors of the images of a file.

    Parameters
    ----------
    path : path
        FILE[HDU] names the HDU, too.
    hdu : int or str, optional
        As for `bgrem.process_file`: also "all".

    Raises
    ------
    FitsError
        If the file cannot be read or has no such image.
    """
    path, named = named_hdu(path)
    hdu = hdu if named is None else named
    every = str(hdu).strip().lower() == "all"
    image = read_image(path, None if every else hdu, store=MAPPED)
    if every:
        return [detector_of(_image_at(image, index)) for index in pictures_of(image)[0]]
    return [detector_of(first_picture(image) if hdu is None else image)]


def _image_at(image: FitsImage, index: int) -> FitsImage:
    return image if index == image.hdu else read_image(image.path, index, store=MAPPED)


@dataclass(frozen=True, kw_only=True)
class CameraOptions:
    """What is asked of the frames of a camera.

    Parameters
    ----------
    hdu : int or str, optional
        Index or EXTNAME of the image in each file, or "all" for every 2-D picture. Default: as for
        `bgrem.process_file`.
    least_chance : float
        Chance from which a pixel is bad.
    companions : bool
        Pixels that masks and weight maps beside an image call bad do not count in that frame.
    memory : float, optional
        Bytes of memory that whole images may take. More is kept in files in the folder of the output, which
        vanish at the end: about 2 bytes for each pixel of each frame.
    lenient : bool
        Leave out frames that cannot be used, with a warning.
    """

    hdu: int | str | None = None
    least_chance: float = LEAST_CHANCE
    companions: bool = True
    memory: float | None = MEMORY_LIMIT
    lenient: bool = False


@np.errstate(all="ignore")
def find_defects(
    paths: Iterable[str | os.PathLike],
    output: str | os.PathLike,
    *,
    model: str | os.PathLike | Model = "optical",
    options: CameraOptions = CameraOptions(),
    overwrite: bool = False,
    facts: Mapping[str, tuple[object, str]] | None = None,
    progress: Callable[[Sequence], Iterable] = iter,
) -> CameraMap:
    """Measure the defects of a detector in its frames and write them as a mask.

    Parameters
    ----------
    paths : iterable of path
        At least five frames of one detector; FILE[HDU] names the HDU, too.
    output : path
        Each map has the index of the HDU of the frames that it belongs to; the planes VALUE and CHANCE of
        each follow.
    model : str, path or Model
        Its sky network measures the sky.
    options : CameraOptions
    overwrite : bool
        Replace an existing output.
    facts : mapping of keyword to (value, comment), optional
        Further cards of the maps.
    progress : callable, optional
        Called with the frames of an HDU; gives them one by one.

    Returns
    -------
    CameraMap

    Raises
    ------
    FitsError
        One sentence with the file and the HDU; nothing has been written then.
    ValueError
        If there are too few frames.
    """
    paths, output = [home_path(path) for path in paths], home_path(output)
    for path in paths:
        check_output(output, path, overwrite)
    check_count(len(paths))
    detectors = _shared_detectors(paths, options.hdu)
    network = optical_model(model)
    work = _Measurement(paths, network, options, existing_folder(output.parent))
    summaries, warnings = [], []
    with writing_map(output, overwrite=overwrite, facts=facts or {}) as writer:
        for detector in detectors:
            label = f"HDU {detector.hdu}: " if len(detectors) > 1 else ""
            exposures = work.exposures(detector, progress)
            defects = measure_defects(exposures, work.store, least_chance=options.least_chance)
            writer.add(defects, detector, [one.name for one in exposures])
            summaries.append(label + defects.summary)
            warnings += [label + line for line in (*work.warnings, *defects.warnings)]
    return CameraMap(output, tuple(summaries), tuple(warnings))


def _shared_detectors(paths: Sequence[Path], hdu: int | str | None) -> list[Detector]:
    """The detectors that all files have. Raises FitsError if a file has another one."""
    first, *others = paths
    detectors = detectors_in(first, hdu)
    for path in others:
        found = detectors_in(path, hdu)
        if len(found) != len(detectors):
            raise FitsError(f"{path}: has {len(found)} images, {first} has {len(detectors)}")
        for one, other in zip(found, detectors, strict=True):
            if difference := one.difference(other):
                raise FitsError(
                    f"{path}: is of another detector than {first} or was read out in another way: {difference}"
                )
    return detectors


@dataclass
class _Measurement:
    """Frames of a detector, and where they are kept."""

    paths: Sequence[Path]
    model: Model
    options: CameraOptions
    folder: Path

    def exposures(
        self, detector: Detector, progress: Callable[[Sequence], Iterable]
    ) -> list[DetectorFrame]:
        """The frames in one HDU without their sky."""
        self.store: Memory = self._room()
        self.warnings: list[str] = []
        found: list[DetectorFrame] = []
        for path in progress(self.paths):
            try:
                found.append(self._exposure(path, detector))
            except FitsError as error:
                if not self.options.lenient:
                    raise
                self.warnings.append(f"left out, {error}")
        cells = {one.cell for one in found}
        if len(cells) > 1:
            odd = next(one for one in found if one.cell != found[0].cell)
            raise FitsError(f"{odd.name}: is a colour mosaic, or is none, unlike {found[0].name}")
        return found

    def _exposure(self, path: Path, detector: Detector) -> DetectorFrame:
        image = read_image(named_hdu(path)[0], detector.hdu, store=self._room())
        companions = self.options.companions
        return read_exposure(image, self.model, companions=companions, store=self.store)

    def _room(self) -> Memory:
        return Scratch(self.folder, self.options.memory or MEMORY_LIMIT)
