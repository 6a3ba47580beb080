"""The catalogue of the image of a file: of all its planes and colours, beside the output."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from bgrem.arrays.rows import Computed
from bgrem.catalogue.header_facts import ZeroPoint, gain_of_header, zero_point_of_header
from bgrem.catalogue.source_measurement import measure_sources
from bgrem.catalogue.table import FORMATS, catalogue_table, read_catalogue, stacked, write_catalogue
from bgrem.options import CatalogueOptions
from bgrem.sky.mosaic_sky import MosaicSky, phases_of
from bgrem.storage.opening import FitsError
from bgrem.storage.temporary import temporary_path

__all__ = ["ImageCatalogue", "catalogue_path", "colours_of", "gather_catalogues", "wcs_of"]

FITS_SUFFIXES = (".gz", ".bz2", ".fz", ".fits", ".fit", ".fts")
COLOUR_CELL = (2, 2)


def catalogue_path(output):
    """The path of the catalogue of an output: ``.cat.fits`` in the place of its suffixes."""
    name = Path(output).name
    for suffix in FITS_SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return Path(output).with_name(f"{name}.cat.fits")


class ImageCatalogue:
    """The catalogue of one file, plane by plane.

    Parameters
    ----------
    path : Path
        Where it goes.
    asked : CatalogueOptions
    threshold : float
        Least SIGNIF.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    FitsError
        Before the work, if it could not be written after it.
    """

    def __init__(self, path, asked: CatalogueOptions, threshold: float, *, overwrite: bool):
        self.path, self._asked, self._threshold = path, asked, threshold
        self._tables, self._names = [], []
        if path.suffix.lower() not in FORMATS:
            raise FitsError(f"{path}: a catalogue ends in {', '.join(FORMATS)}")
        if path.exists() and not overwrite:
            raise FitsError(f"{path}: exists already (--overwrite replaces it)")

    def add(self, image, parts, *, plane="", detected=None):
        """Measure the sources of one plane of an image.

        Parameters
        ----------
        image : `~bgrem.io.reading.FitsImage`
        parts : `~bgrem.Separation`
        plane : str
            Its name, where the file has several.
        detected : `~bgrem.Separation`, optional
            Of the image on which the sources are detected.
        """
        wcs = wcs_of(image)
        for colour, place, seen in colours_of(parts, image.header):
            of = next((d for c, _, d in colours_of(detected, {}) if c == colour), detected)
            table = self._table(image, seen, place, wcs, of if detected is not None else None)
            self._tables.append(table)
            self._names.append(" ".join(filter(None, (plane, colour))))

    def _table(self, image, parts, place, wcs, detected):
        header, asked = image.header, self._asked
        gain = asked.gain if asked.gain is not None else gain_of_header(header)[0]
        zero_point = zero_point_of_header(header)
        if asked.zeropoint is not None:
            zero_point = ZeroPoint(asked.zeropoint, "given")
        columns, measuring = measure_sources(
            parts, threshold=self._threshold, gain=gain, detected=detected
        )
        columns = place.in_image(columns)
        facts = [("BGR_FRAT", asked.false_rate, "[1/Mpix] false detections asked for")]
        return catalogue_table(
            columns, measuring, unit=str(header.get("BUNIT", "")), wcs=wcs, zero_point=zero_point, facts=facts,
        )  # fmt: skip

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


def gather_catalogues(catalogues, path):
    """Write one catalogue of those of several images, with a column FILE.

    Parameters
    ----------
    catalogues : dict of Path to Path
        The catalogue of each image.
    path : Path
    """
    tables = [read_catalogue(catalogue) for catalogue in catalogues.values()]
    table = stacked(tables, "FILE", [str(image) for image in catalogues])
    own = ("CREATOR", "DATE", "BGR_FRAT")
    table.meta = {keyword: pair for keyword, pair in table.meta.items() if keyword in own}
    save_catalogue(table, path)


def save_catalogue(table, path):
    """Write a catalogue that appears complete under its name or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        write_catalogue(table, temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise FitsError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        temporary.unlink(missing_ok=True)


def wcs_of(image):
    """The WCS of an image with its distortions, None where the header has none or it is not valid."""
    from astropy.io import fits
    from astropy.wcs import WCS

    header = image.header
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if any(key.startswith(("CPDIS", "D2IM")) for key in header):
                with fits.open(image.path) as file:
                    return WCS(header, fobj=file)
            return WCS(header)
        except Exception:  # noqa: BLE001 - astropy raises many classes for headers that are not valid
            return None


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
        phase = phases_of(COLOUR_CELL)[2 * place[0] + place[1]]
        self.data, self.sources, self.mask = (
            _every(rows, place) for rows in (parts.data, parts.sources, parts.mask)
        )
        self.significance = _every(parts.significance, place)
        self.sky = _ColourSky(parts.sky, place, plane)
        self.provenance = replace(parts.provenance, fwhm=parts.provenance.fwhm / max(COLOUR_CELL))
        self.phase = phase


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
