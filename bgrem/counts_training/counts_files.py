"""Scenes of counts maps as files: read from TOML, written to FITS with everything that is known about them."""

import tomllib
from dataclasses import asdict, fields
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from astropy.io import fits

from bgrem import __version__
from bgrem.counts_training.counts_sky import COUNTS_PRESETS, random_counts_scene
from bgrem.counts_training.poisson_scene import CountsScene, draw_counts
from bgrem.storage.names import home_path

__all__ = [
    "PIXEL_SCALES", "RANDOM_COUNTS", "USUAL_SCALE", "counts_scene", "counts_to_hdus", "draw_numbered_counts",
    "is_counts_scene", "write_counts",
]  # fmt: skip

RANDOM_COUNTS = "random-counts"  # the name of the sky that a counts model learns from
#: Arcseconds per pixel by the name of a scene: a tenth of a degree, and Chandra's ACIS.
PIXEL_SCALES = {"chandra": 0.492}
USUAL_SCALE = 360.0
FIELD = (0.0, 0.0)  # deg: Galactic place of the middle of a scene
SCENE_CARD = "SCENE"  # cards are written as HIERARCH SCENE NAME = value
DESCRIPTION, DRAWING = 0, 1  # the choice of a scene and its drawing have streams of their own
FIRST_ENERGY, ENERGY_STEP = 1.0, 3.0  # GeV, and from band to band


def is_counts_scene(source):
    """Whether ``--scene`` names a scene of counts: by its name, or a TOML file with ``kind = "counts"``.

    Parameters
    ----------
    source : str or None

    Returns
    -------
    bool
    """
    if source is None:
        return False
    if source in COUNTS_PRESETS or source == RANDOM_COUNTS:
        return True
    path = home_path(source)
    if path.suffix.lower() != ".toml" or not path.is_file():
        return False
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")).get("kind") == "counts"
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False  # reported where it is read


def counts_scene(source, **changes):
    """A scene by its name or from a TOML file.

    Parameters
    ----------
    source : str
        A name of `COUNTS_PRESETS`, or a TOML file with ``kind = "counts"`` and fields of `CountsScene`.
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
    else:
        values = tomllib.loads(home_path(source).read_text(encoding="utf-8"))
        values.pop("kind", None)
    known = {entry.name: entry.default for entry in fields(CountsScene)}
    given = {}
    for name, value in (values | changes).items():
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
    if isinstance(default, tuple):
        if len(value) != 2:
            raise ValueError(f"{source}: {name} is {value!r}, not two whole numbers")
        return tuple(int(side) for side in value)
    if isinstance(default, str) != isinstance(value, str):
        kind = "a name" if isinstance(default, str) else "a number"
        raise ValueError(f"{source}: {name} is {value!r}, not {kind}")
    if isinstance(default, int) and value != int(value):
        raise ValueError(f"{source}: {name} is {value!r}, not a whole number")
    return type(default)(value)


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
        rng = np.random.default_rng([seed, number, DESCRIPTION])
        scene = random_counts_scene(rng, shape=shape or (200, 200))
    return draw_counts(scene, np.random.default_rng([seed, number, DRAWING]))


def counts_to_hdus(sky, *, seed=None, number=0, scale=USUAL_SCALE):
    """The HDUs that describe a drawn map.

    DATA (int32), SOURCES, BACKGROUND, NOISE, EXPOSURE, TEMPLATE, each a cube if there are several energy bands,
    PSF (one image per band), TRUTH and, of a cube, EBOUNDS.

    Parameters
    ----------
    sky : CountsSky
    seed, number : int, optional
        Those of `draw_numbered_counts`, for the header.
    scale : float
        Arcseconds per pixel.

    Returns
    -------
    dict of str to HDU
        By the name of the extension, in order.
    """
    header = _header(sky, seed, number, scale)
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
            hdus[name].header["BUNIT"] = ""
    psf = sky.psf if len(sky.psf) > 1 else sky.psf[0]
    hdus["PSF"] = fits.ImageHDU(psf, name="PSF")
    for axis in (1, 2):
        hdus["PSF"].header[f"CDELT{axis}"] = header[f"CDELT{axis}"]
    hdus["TRUTH"] = fits.BinTableHDU(sky.truth, _truth_header(), name="TRUTH")
    if len(sky.counts) > 1:
        hdus["EBOUNDS"] = _energy_bounds(len(sky.counts))
    return hdus


def write_counts(path, sky, *, truth_path=None, overwrite=False, **options):
    """Write a drawn map to a FITS file.

    Parameters
    ----------
    path : path
    sky : CountsSky
    truth_path : path, optional
        File for all but the data, so that ``path`` looks like an observed map.
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
    first = fits.PrimaryHDU(data.data, data.header)
    groups = [[first, *hdus.values()]]
    if truth_path:
        bounds = [hdus.pop("EBOUNDS")] if "EBOUNDS" in hdus else []
        groups = [[first, *bounds], [fits.PrimaryHDU(), *hdus.values()]]
    for each, group in zip(paths, groups, strict=True):
        each.parent.mkdir(parents=True, exist_ok=True)
        fits.HDUList(group).writeto(each, checksum=True, overwrite=True)


def _header(sky, seed, number, scale):
    """Cards of an observed map, and those that describe the scene."""
    scene = sky.scene
    ny, nx = scene.shape
    header = fits.Header()
    header["OBJECT"] = ("simulated sky", "made by bgrem-simulate: nothing here is real")
    header["BUNIT"] = ("ct", "counts")
    cards = {
        "CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "CUNIT1": "deg", "CUNIT2": "deg",
        "CRVAL1": FIELD[0], "CRVAL2": FIELD[1], "CRPIX1": (nx + 1) / 2, "CRPIX2": (ny + 1) / 2,
        "CDELT1": -scale / 3600, "CDELT2": scale / 3600,
    }  # fmt: skip
    if scene.bands > 1:
        cards |= {
            "CTYPE3": "Energy", "CUNIT3": "GeV", "CRPIX3": 1.0,
            "CRVAL3": FIRST_ENERGY * ENERGY_STEP**0.5, "CDELT3": FIRST_ENERGY * ENERGY_STEP**0.5 * (ENERGY_STEP - 1),
        }  # fmt: skip
    header.update(cards)
    header["PSFFWHM"] = (float(sky.fwhm[0]), "[pix] of the Gaussian of the PSF's area")
    header["BGR_VERS"] = (__version__, "version of bgrem")
    if seed is not None:
        header["SIMSEED"] = (seed, "seed of the random numbers")
        header["SIMNUM"] = (number, "number of the scene")
    for name, value in asdict(scene).items():
        if name != "shape":
            header[f"HIERARCH {SCENE_CARD} {name}"] = value
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


def _energy_bounds(bands):
    """The edges of the energy bands, as Fermi's tools name them."""
    low = FIRST_ENERGY * ENERGY_STEP ** np.arange(bands)
    columns = [
        fits.Column("CHANNEL", "I", array=np.arange(1, bands + 1)),
        fits.Column("E_MIN", "E", unit="GeV", array=low),
        fits.Column("E_MAX", "E", unit="GeV", array=ENERGY_STEP * low),
    ]
    return fits.BinTableHDU.from_columns(columns, name="EBOUNDS")
