"""Frames of one detector without their sky, in units of its rms."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bgrem.arrays.rows import Derived, Memory, Rows
from bgrem.arrays.tiling import row_strips
from bgrem.defects.chance import LARGEST_HALF
from bgrem.detection.frame import measure_frame
from bgrem.inference.model import Model
from bgrem.io.companions import with_companions
from bgrem.io.filter_arrays import mosaic_cell
from bgrem.io.maps import maps_for
from bgrem.io.reading import FitsError, FitsImage, as_planes
from bgrem.io.scales import check_linear
from bgrem.masks.flags import flag_pixels, unseen_pixels
from bgrem.options import DEFAULTS, Run
from bgrem.sky.mosaic_sky import Cell, phases_of
from bgrem.sky.standard import measure_sky, standardise
from bgrem.sky.weights import rms_of_weight
from bgrem.storage.opening import header_faults

__all__ = ["STRIP_ROWS", "DetectorFrame", "read_exposure", "spread_strips"]

HALF = np.float16
TIME_CARDS = ("EXPTIME", "EXPOSURE", "EXP_TIME", "ITIME")
STRIP_ROWS = 64


@dataclass(frozen=True, eq=False)
class DetectorFrame:
    """A frame without its sky.

    Attributes
    ----------
    name : str
        Of the file.
    pixels : Rows
        (data - sky) / rms, half precision of shape (ny, nx), NaN in bad pixels.
    rms : float
        Median rms of the sky in data units.
    time : float
        Exposure time in seconds; NaN where the header has none.
    fwhm : float
        FWHM of the stars in pixels; NaN where it is unknown.
    cell : tuple of int
        Rows and columns of a mosaic of a colour filter array; (1, 1) for others.
    """

    name: str
    pixels: Rows
    rms: float
    time: float
    fwhm: float
    cell: Cell


def read_exposure(
    image: FitsImage, model: Model, *, companions: bool, store: Memory
) -> DetectorFrame:
    """The frame of an image without its sky.

    The sky is that of `bgrem.separate`, and of each colour in mosaics of a colour filter array. The pixels
    are kept in ``store``. Raises FitsError if the image has several planes or no sky.
    """
    run = Run(store=image.store)
    with header_faults(image.label):
        check_linear(image.header, image.label)
        planes = as_planes(image.data)
        if len(planes) != 1:
            raise FitsError(
                f"{image.label} is a cube of {len(planes)} planes, not one frame of a detector"
            )
        data = planes[0]
        bad = _bad_pixels(image, data, companions, run)
        cell = mosaic_cell(image.data, image.header) or (1, 1)
        pixels = store.empty(data.shape, HALF)
        try:
            rms = [_put_phase(pixels, data, bad, phase, model, run) for phase in _phases(cell)]
        except ValueError as error:
            raise FitsError(f"{image.label}: {error}") from None
        time = _time_of(image.header, image.primary)
    fwhm = measure_frame(Derived(pixels, _single, np.float32)).measured_fwhm
    return DetectorFrame(os.fspath(image.path), pixels, float(np.median(rms)), time, fwhm, cell)


def _single(part: np.ndarray) -> np.ndarray:
    return part.astype(np.float32)


def _phases(cell: Cell) -> list:
    return [None] if cell == (1, 1) else phases_of(cell)


def _bad_pixels(image: FitsImage, data: Rows, companions: bool, run: Run) -> Rows:
    given = maps_for(image, saturate=None)
    given = with_companions(image, given) if companions else given
    maps = given.of_plane(0)
    no_data = None
    if maps["weight"] is not None:
        rms = rms_of_weight(maps["weight"], given.weight_type, data.shape, run)
        no_data = Derived(rms, np.isnan, bool)
    return unseen_pixels(flag_pixels(data, mask=maps["mask"], no_data=no_data, run=run))


def _put_phase(pixels: Rows, data: Rows, bad: Rows, phase, model: Model, run: Run) -> float:
    """Fill in the pixels of one colour, or all; their rms in data units."""
    if phase is not None:
        data, bad = np.asarray(data[phase]), np.asarray(bad[phase])
    image = standardise(data, bad, run=run)
    sky = measure_sky(
        image, bad, None, DEFAULTS, box=model.card.box, network=model.sky, run=run
    ).local
    level, rms = sky.background, sky.rms
    for rows in row_strips(image.pixels.shape, STRIP_ROWS):
        x = (np.asarray(image.pixels[rows]) - level[rows]) / rms[rows]
        x = np.clip(x, -LARGEST_HALF, LARGEST_HALF).astype(HALF)
        x[np.asarray(bad[rows])] = np.nan
        if phase is None:
            pixels[rows] = x
        else:
            y, columns = phase
            pixels[
                y.start + y.step * rows.start : y.start + y.step * rows.stop : y.step, columns
            ] = x
    return float(image.scale * np.median(sky.rms_mesh))


def _time_of(header: Mapping[str, Any], primary: Mapping[str, Any]) -> float:
    for keyword in TIME_CARDS:
        value = header.get(keyword, primary.get(keyword))
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return float(value)
    return np.nan


def spread_strips(
    shape: tuple[int, int], most: float = np.inf, height: int = STRIP_ROWS
) -> Iterator[slice]:
    """Strips of rows of an image: all, or evenly spread ones of at most ``most`` pixels in all."""
    strips = list(row_strips(shape, height))
    count = max(1, int(min(len(strips), most / (height * shape[1]))))
    for k in range(count):
        yield strips[(2 * k + 1) * len(strips) // (2 * count)]
