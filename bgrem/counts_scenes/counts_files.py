"""Scenes of counts maps as files: read from TOML or FITS, written to FITS with everything that is known about them."""

import io
import math
import numbers
import tomllib
from dataclasses import asdict, fields
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from astropy.io import fits

from bgrem import __version__
from bgrem.counts_scenes.poisson_scene import CountsScene, draw_counts, random_counts_scene
from bgrem.storage.names import home_path
from bgrem.storage.temporary import replacing

__all__ = [
    "COUNTS_PRESETS", "RANDOM_COUNTS", "counts_scene", "counts_to_hdus", "draw_numbered_counts",
    "is_counts_scene", "read_counts_scene", "scene_pixels", "write_counts",
]  # fmt: skip

#: Scenes by name: patches of the Fermi-LAT of 20 degrees and (brighter) of 10 degrees, with pixels of 0.1 degrees, and
#: a field of Chandra's ACIS.
COUNTS_PRESETS = {
    "counts": CountsScene(),
    "fermi": CountsScene(shape=(100, 100), level=3.0, fwhm=4.0, density=6.0),
    "chandra": CountsScene(
        shape=(1024, 1024), level=0.03, fwhm=1.6, king_index=2.0, tail=0.1, off_axis=5.0, ellipticity=0.1,
        isotropic=0.3, instrumental=0.7, plane=0.0, cloud_contrast=0.1, chip_scatter=0.15, vignetting=0.3,
        gaps=2, density=2.0, population="X-ray sources", extended=0.02, largest_radius=60.0,
    ),
}  # fmt: skip
RANDOM_COUNTS = "random-counts"  # the name of the sky that a counts model learns from
# By the name of a preset: arcseconds per pixel, the lowest energy and its unit; of all others USUAL_PIXELS.
PRESET_PIXELS = {"chandra": (0.492, 0.5, "keV")}  # Chandra's ACIS
USUAL_PIXELS = (360.0, 1.0, "GeV")
ENERGY_STEP = 3.0  # upper over lower energy of a band
COUNTS_CENTRE = (0.0, 0.0)  # deg: Galactic place of the middle of a scene
COUNTS_CARD = "SCENE"  # cards are written as HIERARCH SCENE NAME = value
COUNTS_FIELD = f"{COUNTS_CARD} KING_INDEX"  # a card that only scenes of counts have
CHOICE_STREAM, DRAW_STREAM = 0, 1  # the choice of a scene and its drawing have streams of their own


def is_counts_scene(source):
    """Whether ``--scene`` names a scene of counts.

    Parameters
    ----------
    source : str or None
        A name of `COUNTS_PRESETS`, `RANDOM_COUNTS`, a TOML file with ``kind = "counts"``, or a FITS file that
        `write_counts` wrote.

    Returns
    -------
    bool
        False, too, for a file that cannot be read: this is reported where it is read.
    """
    if source is None:
        return False
    if source in COUNTS_PRESETS or source == RANDOM_COUNTS:
        return True
    path = home_path(source)
    if not path.is_file():
        return False
    try:
        if path.suffix.lower() == ".toml":
            return tomllib.loads(path.read_text(encoding="utf-8")).get("kind") == "counts"
        return COUNTS_FIELD in fits.getheader(path)
    except (OSError, ValueError):
        return False


def counts_scene(source, **changes):
    """A scene by its name or from a file.

    Parameters
    ----------
    source : str
        A name of `COUNTS_PRESETS`, a TOML file with ``kind = "counts"`` and fields of `CountsScene`, or a FITS file
        that `write_counts` wrote.
    **changes
        Fields that replace those of the source.

    Returns
    -------
    CountsScene

    Raises
    ------
    ValueError
        Where a field is unknown, or its value is impossible.
    """
    if source in COUNTS_PRESETS:
        values = asdict(COUNTS_PRESETS[source])
    elif home_path(source).suffix.lower() == ".toml":
        values = tomllib.loads(home_path(source).read_text(encoding="utf-8"))
        values.pop("kind", None)
    else:
        values = asdict(read_counts_scene(source)[0])
    return _made(values | changes, source)


def read_counts_scene(path):
    """What is needed to draw a scene again, from its FITS file.

    Parameters
    ----------
    path : path

    Returns
    -------
    scene : CountsScene
    seed, number : int or None
        For `draw_numbered_counts`.

    Raises
    ------
    ValueError
        Where the file describes no scene of counts.
    """
    header = fits.getheader(home_path(path))
    if COUNTS_FIELD not in header:
        raise ValueError(f"{path}: describes no scene of counts")
    values = {"shape": (header["NAXIS2"], header["NAXIS1"])}
    for entry in fields(CountsScene):
        key = f"{COUNTS_CARD} {entry.name.upper()}"
        if key in header:
            values[entry.name] = header[key]
    return _made(values, str(path)), header.get("SIMSEED"), header.get("SIMNUM")


def scene_pixels(source):
    """Pixel scale and energies of a scene.

    Parameters
    ----------
    source : str
        As for `counts_scene`.

    Returns
    -------
    tuple
        Arcseconds per pixel, the lowest energy, and its unit.
    """
    path = home_path(source)
    if source in COUNTS_PRESETS or not path.is_file() or path.suffix.lower() == ".toml":
        return PRESET_PIXELS.get(source, USUAL_PIXELS)
    header = fits.getheader(path)
    energies = header.get("SIMEMIN", USUAL_PIXELS[1]), header.get("CUNIT3", USUAL_PIXELS[2])
    return (round(3600 * header["CDELT2"], 9), *energies)


def _made(values, source):
    """A scene from a dictionary; ``source`` begins the message where it cannot be made."""
    known = {entry.name: entry.default for entry in fields(CountsScene)}
    given = {}
    for name, value in values.items():
        if name not in known:
            matches = get_close_matches(name, known, n=1)
            hint = f" (is it {matches[0]}?)" if matches else ""
            raise ValueError(f"{source}: a scene of counts has no field {name!r}{hint}")
        given[name] = _typed(name, value, known[name], source)
    try:
        return CountsScene(**given)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _typed(name, value, default, source):
    """A value of the type that the field has."""
    if isinstance(default, tuple):
        sides = value if isinstance(value, (list, tuple)) else ()
        if len(sides) != 2 or not all(_is_number(side) and side % 1 == 0 for side in sides):
            raise ValueError(f"{source}: {name} is {value!r}, not two whole numbers")
        return tuple(int(side) for side in sides)
    kind = {str: "a name", int: "a whole number", float: "a number"}[type(default)]
    right = _is_number(value) if kind != "a name" else isinstance(value, str)
    if not right or (kind == "a whole number" and value % 1):
        raise ValueError(f"{source}: {name} is {value!r}, not {kind}")
    return type(default)(value)


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def draw_numbered_counts(scene, *, seed, number, shape=None):
    """Draw the scene of a given number: the same for the same seed, on any machine.

    Parameters
    ----------
    scene : CountsScene or None
        None draws the description at random, as for the training.
    seed, number : int
        At least 0.
    shape : tuple of int, optional
        (ny, nx) of a random scene in pixels.

    Returns
    -------
    CountsSky
    """
    if scene is None:
        rng = np.random.default_rng([seed, number, CHOICE_STREAM])
        scene = random_counts_scene(rng, shape=shape or (200, 200))
    return draw_counts(scene, np.random.default_rng([seed, number, DRAW_STREAM]))


def counts_to_hdus(sky, *, seed=None, number=0, pixels=USUAL_PIXELS):
    """The HDUs that describe a drawn map.

    DATA (int32), SOURCES, BACKGROUND, NOISE, EXPOSURE, TEMPLATE, each a cube if there are several energy bands,
    PSF (one image per band), TRUTH and, of a cube, EBOUNDS.

    Parameters
    ----------
    sky : CountsSky
    seed, number : int, optional
        Those of `draw_numbered_counts`, for the header.
    pixels : tuple
        Arcseconds per pixel, lowest energy, and its unit.

    Returns
    -------
    dict of str to HDU
        By the name of the extension, in order.
    """
    header = _header(sky, seed, number, pixels)
    noise = sky.counts - sky.sources.astype(np.float64) - sky.background
    planes = {
        "DATA": sky.counts, "SOURCES": sky.sources, "BACKGROUND": sky.background,
        "NOISE": noise.astype(np.float32), "EXPOSURE": sky.exposure, "TEMPLATE": sky.template,
    }  # fmt: skip
    hdus = {}
    for name, plane in planes.items():
        whole = plane if len(plane) > 1 else plane[0]
        hdus[name] = fits.ImageHDU(whole, header if name == "DATA" else _wcs_of(header), name=name)
        if name in ("EXPOSURE", "TEMPLATE"):
            del hdus[name].header["BUNIT"]  # relative
    psf = sky.psf if len(sky.psf) > 1 else sky.psf[0]
    hdus["PSF"] = fits.ImageHDU(psf, name="PSF")
    for axis in (1, 2):
        hdus["PSF"].header[f"CDELT{axis}"] = header[f"CDELT{axis}"]
    hdus["TRUTH"] = fits.BinTableHDU(sky.truth, _truth_header(), name="TRUTH")
    if len(sky.counts) > 1:
        hdus["EBOUNDS"] = _energy_bounds(len(sky.counts), *pixels[1:])
    return hdus


def write_counts(path, sky, *, truth_path=None, overwrite=False, **options):
    """Write a drawn map to a FITS file.

    Parameters
    ----------
    path : path
    sky : CountsSky
    truth_path : path, optional
        File for all but the data and the energies, so that ``path`` looks like an observed map.
    overwrite : bool
        Replace existing files.
    **options
        See `counts_to_hdus`.

    Raises
    ------
    FileExistsError
        Where a file is there already.
    """
    paths = [Path(path)] + ([Path(truth_path)] if truth_path else [])
    for each in paths:
        if each.exists() and not overwrite:
            raise FileExistsError(f"{each} exists (--overwrite replaces it)")
    hdus = counts_to_hdus(sky, **options)
    data = hdus.pop("DATA")
    # A primary HDU keeps its EXTNAME, so that -h DATA finds it.
    first = fits.PrimaryHDU(data.data, data.header)
    groups = [[first, *hdus.values()]]
    if truth_path:
        bounds = [hdus[name] for name in hdus if name == "EBOUNDS"]
        groups = [[first, *bounds], [fits.PrimaryHDU(), *hdus.values()]]
    for each, group in zip(paths, groups, strict=True):
        contents, whole = io.BytesIO(), fits.HDUList(group)
        whole.update_extend()
        for hdu in whole:
            hdu.add_checksum(when="of this HDU")  # without the time: equal maps give equal files
        whole.writeto(contents)
        with replacing(each, overwrite=overwrite) as stream:
            stream.write(contents.getbuffer())


def _header(sky, seed, number, pixels):
    """Cards of an observed map, and those that describe the scene."""
    scene = sky.scene
    scale, energy, unit = pixels
    ny, nx = scene.shape
    header = fits.Header()
    header["OBJECT"] = ("simulated sky", "made by bgrem-simulate: nothing here is real")
    header["BUNIT"] = ("ct", "counts")
    cards = {
        "CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "CUNIT1": "deg", "CUNIT2": "deg",
        "CRVAL1": COUNTS_CENTRE[0], "CRVAL2": COUNTS_CENTRE[1], "CRPIX1": (nx + 1) / 2, "CRPIX2": (ny + 1) / 2,
        "CDELT1": -scale / 3600, "CDELT2": scale / 3600,
    }  # fmt: skip
    if scene.bands > 1:
        # The axis has the middle and the width of the first band, as those of Fermi's tools; EBOUNDS has all bands.
        cards |= {
            "CTYPE3": "Energy", "CUNIT3": unit, "CRPIX3": 1.0,
            "CRVAL3": energy * ENERGY_STEP**0.5, "CDELT3": energy * (ENERGY_STEP - 1),
        }  # fmt: skip
    header.update(cards)
    if scene.bands > 1:
        header["SIMEMIN"] = (energy, f"[{unit}] lowest energy")
    header["PSFFWHM"] = (float(sky.fwhm[0]), "[pix] of the Gaussian of the PSF's area")
    header["BGR_VERS"] = (__version__, "version of bgrem")
    if seed is not None:
        header["SIMSEED"] = (seed, "seed of the random numbers")
        header["SIMNUM"] = (number, "number of the scene")
    for name, value in asdict(scene).items():
        if name != "shape":
            header[f"HIERARCH {COUNTS_CARD} {name}"] = value
    return header


def _wcs_of(header):
    names = ("CTYPE", "CUNIT", "CRVAL", "CRPIX", "CDELT", "BUNIT")
    return fits.Header([card for card in header.cards if card.keyword.startswith(names)])


def _truth_header():
    header = fits.Header()
    header["COMMENT"] = "x, y: pixels, the centre of the first pixel is 0."
    header["COMMENT"] = "counts: expected, of all energy bands, with the local exposure."
    header["COMMENT"] = "snr: square root of the expected test statistic over the true background."
    header["COMMENT"] = "kind: 0 point source, 1 extended source, whose radius is in pixels."
    return header


def _energy_bounds(bands, energy, unit):
    """The edges of the energy bands, as Fermi's tools name them."""
    low = energy * ENERGY_STEP ** np.arange(bands)
    columns = [
        fits.Column("CHANNEL", "I", array=np.arange(1, bands + 1)),
        fits.Column("E_MIN", "D", unit=unit, array=low),
        fits.Column("E_MAX", "D", unit=unit, array=ENERGY_STEP * low),
    ]
    return fits.BinTableHDU.from_columns(columns, name="EBOUNDS")
