"""The catalogue of an image: calibrated on it, of all its planes and colours."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bgrem.arrays.rows import Computed
from bgrem.arrays.tiling import row_strips
from bgrem.catalogue.catalogue_files import check_path, save_catalogue, stacked
from bgrem.catalogue.planted import FrameCalibration, calibrate_frame
from bgrem.catalogue.source_measurement import (
    STRIP_PIXELS,
    Measuring,
    measure_sources,
    prepare_measuring,
)
from bgrem.catalogue.table import SELECTION, catalogue_table, selection_table
from bgrem.io.header_facts import ZeroPoint, gain_of_header, wcs_of, zero_point_of_header
from bgrem.options import CatalogueOptions
from bgrem.sky.mosaic_sky import MosaicSky
from bgrem.storage.opening import FitsError

__all__ = [
    "ImageCatalogue", "Listing", "catalogue_of", "colours_of", "list_sources",
]  # fmt: skip

OF_THE_LIGHT = ("FLUX", "MAG", "RATIO_PSF", "RATIO_AUTO")  # columns of SELECTION
COLOUR_CELL = (2, 2)
BYTES_OF_PIXEL = 800.0  # of the memory for each pixel that is measured at once; the parts of the image take the rest
LOWER = 1.5  # SIGNIF: sources are measured from below the model's threshold on, that of the frame may be lower


@dataclass(frozen=True, eq=False)
class Listing:
    """The sources of one image: columns, what they were measured with, and the calibration on the frame or None."""

    columns: dict
    measuring: Measuring
    calibration: FrameCalibration | None


def list_sources(
    parts, asked: CatalogueOptions, card, *, separate, gain=None, detected=None, memory=None
):
    """Detect and measure the sources of an image, with the threshold that its own noise asks for.

    Parameters
    ----------
    parts : `~bgrem.Separation`
    asked : CatalogueOptions
    card : `~bgrem.inference.ModelCard`
        Its false detections give the threshold without a calibration on the frame.
    separate : callable
        As of `bgrem.catalogue.planted.calibrate_frame`.
    gain : float, optional
        Electrons per data unit.
    detected : `~bgrem.Separation`, optional
        On which the sources are detected.
    memory : float, optional
        Bytes that the work may take.

    Returns
    -------
    Listing
        The columns have "p_real" where the calibration gives it.

    Raises
    ------
    ValueError
        If the model's card gives no threshold.
    """
    if card.calibration is None:
        raise ValueError(f"the model {card.name} is not calibrated: its catalogue has no threshold")
    threshold = card.calibration.threshold_for(asked.false_rate)
    most = STRIP_PIXELS if memory is None else min(STRIP_PIXELS, int(memory / BYTES_OF_PIXEL))
    given = {"gain": gain, "detected": detected, "most_pixels": most}
    if not asked.calibrate:
        return Listing(*measure_sources(parts, threshold=threshold, **given), None)
    columns, measuring = measure_sources(parts, threshold=threshold - LOWER, **given)
    seen, with_it = parts, replace(measuring, threshold=threshold)
    if detected is not None:
        seen, with_it = detected, prepare_measuring(detected, threshold)
    frame = calibrate_frame(seen, separate=separate, card=card, measuring=with_it)
    threshold = frame.threshold_for(asked.false_rate)
    if asked.purity is not None and frame.false.is_measured:
        threshold = frame.false.least_signif(asked.purity)
    if threshold < measuring.threshold:
        columns, measuring = measure_sources(parts, threshold=threshold, **given)
    kept = columns["signif"] > threshold
    columns = {name: values[kept] for name, values in columns.items()}
    if frame.false.is_measured:
        columns["p_real"] = frame.p_real(columns["signif"])
    return Listing(columns, replace(measuring, threshold=threshold), frame)


class ImageCatalogue:
    """The catalogue of one file, plane by plane.

    Parameters
    ----------
    path : Path
        Where it goes.
    asked : CatalogueOptions
    card : `~bgrem.inference.ModelCard`
    overwrite : bool
        Replace an existing file.
    others : sequence of path
        Files that it must not replace: the image, its output, its maps.
    memory : float, optional
        Bytes that the work may take.

    Raises
    ------
    FitsError
        Before the work, if it could not be written after it.
    ValueError
        If the model's card gives no threshold.
    """

    def __init__(
        self, path, asked: CatalogueOptions, card, *, overwrite: bool, others=(), memory=None
    ):
        self.path, self._asked, self._card, self._memory = path, asked, card, memory
        self._tables, self._names = [], []
        check_path(path, overwrite, others)
        if card.calibration is not None:
            card.calibration.threshold_for(asked.false_rate)

    def add(self, image, parts, *, separate, plane="", detected=None):
        """Measure the sources of one plane of an image.

        Parameters
        ----------
        image : `~bgrem.io.reading.FitsImage`
        parts : `~bgrem.Separation`
            Its uncertainty is multiplied by the factors of the frame, in place.
        separate : callable
            As of `bgrem.catalogue.planted.calibrate_frame`.
        plane : str
            Its name, where the file has several.
        detected : `~bgrem.Separation`, optional
            Of the image on which the sources are detected.

        Returns
        -------
        `~bgrem.Separation`
            The parts, their thresholds those of the frame.
        """
        colours, others = colours_of(parts, image.header), colours_of(detected, image.header)
        if others and len(others) != len(colours):
            raise FitsError(
                f"{image.label}: a mosaic of colours and an image that is none cannot be detected together"
            )
        asked = self._asked
        if len(colours) > 1:
            # A colour alone is not separated as the mosaic was.
            asked = replace(asked, calibrate=False, purity=None)
        for k, (colour, place, seen) in enumerate(colours):
            other = others[k][2] if others else None
            table, listing = self._table(image, seen, place, asked, other, separate)
            self._tables.append(table)
            self._names.append(" ".join(filter(None, (plane, colour))))
        frame = listing.calibration if detected is None else None
        noticed = _warnings(listing, self._asked, mosaic=len(colours) > 1)
        facts = replace(parts.provenance, warnings=[*parts.provenance.warnings, *noticed])
        parts = replace(parts, provenance=facts)
        return corrected(parts, frame) if frame else parts

    def _table(self, image, parts, place, asked, detected, separate):
        headers = (image.header, image.primary)
        gain = asked.gain or next(filter(None, (gain_of_header(h)[0] for h in headers)), None)
        zero_point = next(filter(None, map(zero_point_of_header, headers)), None)
        if asked.zeropoint is not None:
            zero_point = ZeroPoint(asked.zeropoint, "given")
        listing = list_sources(
            parts, asked, self._card, separate=separate, gain=gain, detected=detected,
            memory=self._memory,
        )  # fmt: skip
        listing = replace(listing, columns=place.in_image(listing.columns))
        facts = {
            "unit": str(image.header.get("BUNIT", "")),
            "wcs": wcs_of(image),
            "zero_point": zero_point,
        }
        table = catalogue_of(listing, asked, **facts)
        if detected is not None and SELECTION in table.meta:
            # The light of the planted sources is that of the other image.
            selection = table.meta[SELECTION]
            selection.remove_columns([n for n in OF_THE_LIGHT if n in selection.colnames])
        return table, listing

    @property
    def first(self):
        """The table of the first plane, None before there is one."""
        return self._tables[0] if self._tables else None

    def write(self):
        """Write the catalogue under a temporary name and rename it."""
        if not self._tables:
            return
        table = self._tables[0]
        if len(self._tables) > 1 or self._names[0]:
            table = stacked(self._tables, "PLANE", self._names)
            table["NUMBER"] = np.arange(1, len(table) + 1, dtype=np.int32)
        save_catalogue(table, self.path)


def catalogue_of(listing: Listing, asked: CatalogueOptions, *, unit="", wcs=None, zero_point=None):
    """The table of a listing; the keywords are those of `bgrem.catalogue.table.catalogue_table`.

    Its ``meta`` holds the completeness as a table, too ("SELECTION"), where it was measured on the frame.
    """
    frame = listing.calibration
    cards = [
        ("BGR_FRAT", None if asked.purity else asked.false_rate, "[1/Mpix] false detections asked for"),
        ("BGR_PUR", asked.purity, "least P_REAL asked for"),
        ("BGR_CALI", "model" if frame is None or frame.reason else "frame", "where the threshold is from"),
    ]  # fmt: skip
    if frame is not None:
        cards += [
            ("BGR_SIG1", frame.threshold_for(1.0), "SIGNIF of 1 false detection per Mpix"),
            ("BGR_SG10", frame.threshold_for(10.0), "SIGNIF of 10 false detections per Mpix"),
        ]
    units = {"unit": unit, "zero_point": zero_point}
    table = catalogue_table(listing.columns, listing.measuring, cards=cards, wcs=wcs, **units)
    if frame is not None and len(frame.planted):
        table.meta[SELECTION] = selection_table(frame, listing.measuring.threshold, **units)
    return table


def _warnings(listing: Listing, asked: CatalogueOptions, *, mosaic):
    """What a user must know of a catalogue, one short sentence each."""
    noticed, frame = [], listing.calibration
    if mosaic and asked.calibrate:
        noticed.append("the catalogue of a mosaic of colours has the threshold of the model")
    if frame is not None and frame.reason:
        noticed.append(f"the catalogue has numbers of the model, not of the frame: {frame.reason}")
    if not listing.measuring.psf.is_measured:
        noticed.append("the catalogue has a Gaussian PSF: too few stars show it")
    return noticed


def corrected(parts, frame: FrameCalibration):
    """Parts whose uncertainty and thresholds are those of the frame; the uncertainty is changed in place."""
    if parts.uncertainty is not None:
        wide = parts.sky.wide_light if not parts.sky.in_background else None
        for rows in row_strips(parts.sources.shape):
            light = parts.sources[rows] if wide is None else parts.sources[rows] - wide[rows]
            scale = frame.uncertainty_scale(light / parts.sky.rms[rows])
            parts.uncertainty[rows] = parts.uncertainty[rows] * scale
    if not frame.false.is_measured:
        return parts
    facts = replace(
        parts.provenance, signif_1=frame.threshold_for(1.0), signif_10=frame.threshold_for(10.0)
    )
    return replace(parts, provenance=facts)


class _Place:
    """Where the pixels of a colour are in the image: every `step`-th from `first`, in the order y, x."""

    def __init__(self, first=(0, 0), step=(1, 1)):
        self._first, self._step = first, step

    def in_image(self, columns):
        """Columns with places and lengths in pixels of the image."""
        columns = dict(columns)
        for axis, first, step in zip("yx", self._first, self._step, strict=True):
            columns[axis] = first + step * columns[axis]
            columns[f"{axis}_error"] = step * columns[f"{axis}_error"]
        for name in ("a", "b", "half_light_radius", "fwhm"):
            columns[name] = max(self._step) * columns[name]
        return columns


def colours_of(parts, header: Mapping):
    """The colours of a Bayer mosaic, each as an image of its own; the image itself where it is none.

    Parameters
    ----------
    parts : `~bgrem.Separation` or None
    header : mapping
        BAYERPAT names the colours.

    Returns
    -------
    list of (str, place, parts)
        Name, place in the image, and the parts in its pixels.
    """
    if parts is None:
        return []
    sky = parts.sky
    if not isinstance(sky, MosaicSky) or sky.cell != COLOUR_CELL:
        return [("", _Place(), parts)]
    letters = str(header.get("BAYERPAT", "")).strip().upper()
    places = list(np.ndindex(COLOUR_CELL))
    named = letters if len(letters) == len(places) else ["".join(map(str, p)) for p in places]
    names = [f"{letter}{named[:k].count(letter) + 1}" if named.count(letter) > 1 else letter
             for k, letter in enumerate(named)]  # fmt: skip
    return [
        (name, _Place(place, COLOUR_CELL), _Colour(parts, place, plane))
        for name, place, plane in zip(names, places, sky.planes, strict=True)
    ]


class _Colour:
    """The parts of a mosaic in the pixels of one colour."""

    def __init__(self, parts, place, plane):
        self.data, self.sources, self.mask = (
            _every(rows, place) for rows in (parts.data, parts.sources, parts.mask)
        )
        self.significance = _every(parts.significance, place)
        self.sky = _ColourSky(parts.sky, place, plane)
        self.provenance = replace(parts.provenance, fwhm=parts.provenance.fwhm / max(COLOUR_CELL))


class _ColourSky:
    """The sky of a mosaic in the pixels of one colour."""

    def __init__(self, sky, place, plane):
        self.background, self.rms, self.error = (
            _every(rows, place) for rows in (sky.background, sky.rms, sky.error)
        )
        self.wide_light = None if sky.wide_light is None else _every(sky.wide_light, place)
        self.in_background = sky.in_background
        whole = 1.0 if sky.whole is None else sky.whole.median_rms
        self.median_rms = plane.median_rms * whole


def _every(rows_of, place):
    """Every second pixel of an image along each axis, from a place."""
    top, left = place
    ny, nx = rows_of.shape
    shape = (ny - top + 1) // 2, (nx - left + 1) // 2

    def part(rows):
        seen = np.asarray(rows_of[2 * rows.start : min(2 * rows.stop, ny)])
        return seen[top::2, left::2]

    return Computed(shape, rows_of.dtype, part)
