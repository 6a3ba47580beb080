"""Mosaics of a colour filter array: interleaved planes, each with its own sky and gain.

As one image their pattern would be noise of several sky rms. The four planes of a Bayer mosaic are
separated alone where they resolve the stars. All other mosaics are brought to one sky level and one noise;
their planes give the light that is wider than the pixels of a plane, and the rest is separated as one image.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from bgrem.arrays.filters import median_filter
from bgrem.arrays.rows import Derived, Rows, as_rows
from bgrem.arrays.tiling import row_strips
from bgrem.detection.frame import SUREST_FIRST, Frame, measure_frame
from bgrem.io.filter_arrays import BAYER_CELL
from bgrem.masks.flags import MASKED, NO_DATA, SATURATED, UNSEEN, flag_pixels, unseen_pixels
from bgrem.masks.saturation import flag_saturated
from bgrem.options import DEFAULTS, IN_MEMORY, SMALLEST_IMAGE, Options, Run
from bgrem.separation import Provenance, Separation
from bgrem.sky.measured import SkyFunction
from bgrem.sky.mosaic_sky import Cell, MosaicSky, Phase, phases_of
from bgrem.sky.standard import SkyMap, measure_sky, standardise
from bgrem.sky.weights import rms_of_weight

__all__ = ["BAYER", "separate_mosaic"]

BAYER = ("auto", "yes", "no")
# Pixels, of a Bayer mosaic: the planes of sharper stars hide them (benchmarks/quality/mosaics.py).
RESOLVED = 4.0
LEVEL_BOX = 256  # pixels of the mosaic, of which 1800 are of one position of a 6 x 6 pattern
ONE_COLOUR = 0.5  # sky rms: positions in the cell whose levels are as near are taken for one colour


def separate_mosaic(
    separate: Callable[..., Separation],
    cell: Cell,
    data: np.ndarray,
    *,
    network: SkyFunction | None = None,
    options: Options = DEFAULTS,
    run: Run = IN_MEMORY,
    **maps: Any,
) -> Separation:
    """Separate a mosaic, each colour with its own sky and noise.

    ``separate`` is `bgrem.separate` with its model, ``cell`` the rows and columns of the pattern,
    ``network`` the model's sky network. The other parameters are as for it, with lengths in pixels of the
    mosaic; ``maps`` are its mask, weight, weight_type and saturate. The sky of the result is a `MosaicSky`.
    """
    levelled = _Levelled(cell, data, network, options, run, maps)
    if cell == BAYER_CELL and not levelled.dead and not levelled.frame.measured_fwhm < RESOLVED:
        if levelled.doubts:
            maps["saturate"] = None
        parts = _as_planes(separate, cell, data, options, run, maps)
        noticed = [*levelled.doubts, *parts.provenance.warnings]
        return replace(parts, provenance=replace(parts.provenance, warnings=noticed))
    return levelled.separated(separate)


# --- as one image


class _Levelled:
    """A mosaic at one sky level and one noise: (data - level) / noise, those of each position in the cell."""

    def __init__(
        self,
        cell: Cell,
        data: np.ndarray,
        network: SkyFunction | None,
        options: Options,
        run: Run,
        maps: dict[str, Any],
    ) -> None:
        self._cell, self._data, self._options, self._run = cell, data, options, run
        self._network = network
        self._maps = {"mask": None, "weight": None, "weight_type": "inverse", "saturate": None}
        self._maps |= maps
        weight = self._maps["weight"]
        self._rms = None
        if weight is not None:
            self._rms = rms_of_weight(weight, self._maps["weight_type"], data.shape, run)
        no_data = None if self._rms is None else Derived(self._rms, np.isnan, bool)
        self._flags = flag_pixels(data, mask=self._maps["mask"], no_data=no_data, run=run)
        self._unseen = unseen_pixels(self._flags)
        box = (options.box or LEVEL_BOX) // max(cell)
        box = max(SMALLEST_IMAGE, box)
        self._of_planes = replace(DEFAULTS, norm=options.norm, sky=options.sky, box=box)
        levels, self.dead = self._levels()
        self._minpix = next((low for _, low in levels if low is not None), None)
        self._sky = MosaicSky(_pooled([sky for sky, _ in levels]), cell, data.shape)
        self.doubts = flag_saturated(self._flags, data, self._maps["saturate"], self._sky, run)
        if self.doubts:
            self._maps["saturate"] = None
        self._pixels = self._normalised()

    def _levels(self) -> tuple[list, list[Phase]]:
        """The skies of all positions, and the positions that are dead: constant, or without a good pixel.

        A dead position has no data, and the sky of another.
        """
        levels, dead, reason = [], [], ""
        for phase in phases_of(self._cell):
            try:
                levels.append(self._level_of(phase))
            except ValueError as error:
                levels.append(None)
                dead.append(phase)
                reason = str(error)
        if len(dead) == len(levels):
            raise ValueError(reason)
        for phase in dead:
            for rows in row_strips(_plane_shape(self._data.shape, phase)):
                place = _in_the_mosaic(rows, phase)
                self._flags[place] = self._flags[place] | np.uint8(NO_DATA)
        usual = next(level for level in levels if level is not None)
        return [usual if level is None else level for level in levels], dead

    def _level_of(self, phase: Phase) -> tuple[SkyMap, float | None]:
        """The sky of one position in the cell, and the level to which lower pixels are raised."""
        bad = unseen_pixels(_plane(self._flags, phase, self._run))
        image = standardise(
            _plane(self._data, phase, self._run), bad, self._options.minpix, self._run
        )
        options, network = self._of_planes, self._network
        sky = measure_sky(
            image, bad, None, options, box=options.box, network=network, run=self._run
        )
        return SkyMap(sky, image.center, image.scale), image.minpix

    def _normalised(self) -> np.ndarray:
        double = self._data.dtype == np.float64
        pixels = self._run.empty(self._data.shape, np.float64 if double else np.float32)
        level, noise = self._sky.background, self._sky.rms
        for rows in row_strips(pixels.shape):
            strip = np.asarray(self._data[rows], np.float64)
            if self._minpix is not None:
                strip = np.maximum(strip, self._minpix)
            pixels[rows] = (strip - level[rows]) / noise[rows]
        return pixels

    @cached_property
    def frame(self) -> Frame:
        """What the mosaic is, measured before its wide light is taken away, which makes the stars sharper."""
        return measure_frame(self._pixels, self._unseen, fwhm=self._options.fwhm)

    def separated(self, separate: Callable[..., Separation]) -> Separation:
        """The parts of the mosaic, in data units."""
        frame = self.frame
        small = min(n // side for n, side in zip(self._data.shape, self._cell, strict=True))
        turns = 1 if small < SMALLEST_IMAGE else 2
        wide = self._wide_light(separate) if turns == 2 else None
        if wide is not None:
            for rows in row_strips(wide.shape):
                self._pixels[rows] = self._pixels[rows] - wide[rows]
        parts = separate(
            self._pixels,
            mask=self._where(UNSEEN),
            saturate=self._where(SATURATED),
            weight=self._weight(),
            weight_type="rms",
            options=self._in_units_of_noise(),
            run=replace(self._run, progress=self._run.share(turns - 1, turns)),
        )
        return self._in_data_units(parts, wide, frame)

    def _where(self, bits: int) -> np.ndarray | None:
        """Where any of the flags is set, None if nowhere."""
        image = self._run.empty(self._data.shape, bool)
        found = False
        for rows in row_strips(image.shape):
            strip = (self._flags[rows] & bits) != 0
            image[rows] = strip
            found = found or bool(strip.any())
        return image if found else None

    def _weight(self) -> np.ndarray | None:
        """The rms map of the weight map in units of the noise of each position."""
        rms, noise = self._rms, self._sky.rms
        if rms is None:
            return None
        unit = self._sky.median_rms
        for rows in row_strips(rms.shape):
            rms[rows] = rms[rows] * (unit / noise[rows])
        return rms

    def _in_units_of_noise(self) -> Options:
        norm = 1.0 if self._options.norm else None
        return replace(self._options, minpix=None, norm=norm)

    def _wide_light(self, separate: Callable[..., Separation]) -> np.ndarray:
        """Light that is wider than the pixels of a plane, from the planes alone.

        A nebula in one line would be a pattern of single pixels in the whole.
        """
        hidden, phases = self._where(UNSEEN | SATURATED), phases_of(self._cell)
        options = replace(self._in_units_of_noise(), maps=(), fwhm=None, box=None)
        first = replace(self._run, progress=self._run.share(0, 2))
        light = self._run.empty(self._data.shape, np.float32)
        for i, phase in enumerate(phases):
            if phase in self.dead:
                for rows in row_strips(_plane_shape(self._data.shape, phase)):
                    light[_in_the_mosaic(rows, phase)] = 0
                continue
            plane = separate(
                _plane(self._pixels, phase, self._run),
                mask=_plane(hidden, phase, self._run),
                options=options,
                run=replace(first, progress=first.share(i, len(phases))),
            )
            for rows in row_strips(plane.sources.shape):
                light[_in_the_mosaic(rows, phase)] = _wide(plane.sources, rows)
        return light

    def _in_data_units(
        self, parts: Separation, wide: np.ndarray | None, frame: Frame
    ) -> Separation:
        noise = self._sky.rms
        for rows in row_strips(self._data.shape):
            unit = noise[rows]
            light = parts.sources[rows]
            if wide is not None:
                light = light + np.where(self._flags[rows] & UNSEEN, 0, wide[rows])
            parts.sources[rows] = light * unit
            if parts.uncertainty is not None:
                parts.uncertainty[rows] = parts.uncertainty[rows] * unit
            found = parts.mask[rows] & np.uint8(255 - MASKED)
            parts.mask[rows] = self._flags[rows] | found
        sky = replace(self._sky, whole=parts.sky)
        saturate = self._maps["saturate"]
        down, across = self._cell
        provenance = replace(
            parts.provenance,
            level=sky.median_level, rms=sky.median_rms * parts.sky.median_rms, minpix=self._minpix,
            norm=float(self._options.norm or 0.0),
            fwhm=frame.fwhm_or_typical, fwhm_from=frame.fwhm_from,
            weight=None if self._maps["weight"] is None else self._maps["weight_type"],
            saturate=None if saturate is None or np.ndim(saturate) else float(saturate),
            warnings=[
                f"a colour mosaic of {across} x {down} pixels: done as one image, each colour with its sky",
                *([f"{len(self.dead)} of {down * across} positions in the cell have no data"] if self.dead else []),
                *self.doubts,
                *parts.provenance.warnings,
            ],
        )  # fmt: skip
        return Separation(
            self._data, parts.sources, sky, parts.mask, provenance,
            parts.uncertainty, parts.significance, self._run.store,
        )  # fmt: skip


def _pooled(skies: list[SkyMap]) -> list[SkyMap]:
    """The skies with the median mesh of those that have one level: positions of one colour."""
    if len({sky.mesh.rms_mesh.shape for sky in skies}) > 1:
        return skies
    levels = np.array([sky.median_level for sky in skies])
    order = np.argsort(levels)
    apart = np.diff(levels[order]) > ONE_COLOUR * np.median([sky.median_rms for sky in skies])
    pooled = list(skies)
    for group in np.split(order, np.flatnonzero(apart) + 1):
        level = np.median([skies[i].background_mesh for i in group], axis=0)
        rms = np.median([skies[i].rms_mesh for i in group], axis=0)
        for i in group:
            one = skies[i]
            mesh = replace(
                one.mesh,
                background_mesh=((level - one.center) / one.scale).astype(np.float32),
                rms_mesh=(rms / one.scale).astype(np.float32),
            )
            pooled[i] = replace(one, sky=replace(one.sky, mesh=mesh, local=mesh))
    return pooled


def _wide(sources: Rows, rows: slice) -> np.ndarray:
    """Some rows of what is left of sources after a median of 3 x 3 pixels."""
    above, below = min(rows.start, 1), min(sources.shape[0] - rows.stop, 1)
    strip = np.nan_to_num(sources[rows.start - above : rows.stop + below])
    padded = np.pad(strip, ((1 - above, 1 - below), (1, 1)), mode="edge")
    return median_filter(padded, 3)[1:-1, 1:-1]


# --- as planes


def _as_planes(
    separate: Callable[..., Separation],
    cell: Cell,
    data: np.ndarray,
    options: Options,
    run: Run,
    maps: dict[str, Any],
) -> Separation:
    """Separate each plane alone and interleave the parts."""
    options = replace(
        options,
        fwhm=None if options.fwhm is None else options.fwhm / 2,
        box=None if options.box is None else max(SMALLEST_IMAGE, options.box // 2),
    )
    phases = phases_of(cell)
    planes = [
        separate(
            _plane(data, phase, run),
            **{name: _plane(values, phase, run) for name, values in maps.items()},
            options=options,
            run=replace(run, progress=run.share(i, len(phases))),
        )
        for i, phase in enumerate(phases)
    ]
    sky = MosaicSky([plane.sky for plane in planes], cell, data.shape)
    joined = {
        name: _interleaved([getattr(plane, name) for plane in planes], phases, data.shape, run)
        for name in ("sources", "mask", "uncertainty", "significance")
    }
    provenance = _provenance([plane.provenance for plane in planes], sky, phases)
    return Separation(data=data, sky=sky, provenance=provenance, store=run.store, **joined)


def _plane(values, phase: Phase, run: Run):
    """The pixels of one position in the cell; what is no image stays as it is."""
    if not np.ndim(values):
        return values
    values = as_rows(values)
    plane = run.empty(_plane_shape(values.shape, phase), values.dtype)
    for rows in row_strips(plane.shape):
        plane[rows] = values[_in_the_mosaic(rows, phase)]
    return plane


def _plane_shape(shape: tuple[int, int], phase: Phase) -> tuple[int, int]:
    """Rows and columns of the pixels of one position in the cell."""
    rows, columns = (-(-(n - p.start) // p.step) for n, p in zip(shape, phase, strict=True))
    return rows, columns


def _interleaved(
    planes: list, phases: list[Phase], shape: tuple[int, int], run: Run
) -> np.ndarray | None:
    if planes[0] is None:
        return None
    whole = run.empty(shape, planes[0].dtype)
    for phase, plane in zip(phases, planes, strict=True):
        for rows in row_strips(plane.shape):
            whole[_in_the_mosaic(rows, phase)] = plane[rows]
    return whole


def _in_the_mosaic(rows: slice, phase: Phase) -> tuple[slice, slice]:
    """Where rows of a plane are in the mosaic."""
    y, x = phase
    last = y.step * (rows.stop - 1) + y.start
    return slice(y.step * rows.start + y.start, last + 1, y.step), x


def _provenance(planes: list[Provenance], sky: MosaicSky, phases: list[Phase]) -> Provenance:
    """That of the first plane, with what is true of all, and warnings of single planes with their pixels."""
    common = set.intersection(*(set(plane.warnings) for plane in planes))
    noticed = [line for line in planes[0].warnings if line in common]
    for plane, (y, x) in zip(planes, phases, strict=True):
        name = f"plane of the pixels [{y.start}::{y.step}, {x.start}::{x.step}]"
        noticed += [f"{name}: {line}" for line in plane.warnings if line not in common]
    surest = min((plane.fwhm_from for plane in planes), key=SUREST_FIRST.index)
    widths = [plane.fwhm for plane in planes if plane.fwhm_from == surest]
    return replace(
        planes[0],
        level=sky.median_level,
        rms=sky.median_rms,
        fwhm=2 * float(np.median(widths)),
        fwhm_from=surest,
        lost_light=float(np.mean([plane.lost_light for plane in planes])),
        warnings=["a Bayer mosaic: done as four planes", *noticed],
    )
