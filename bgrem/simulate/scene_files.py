"""Scenes as files: read from TOML, written to FITS with everything that is known about them."""

import math
import numbers
import os
import tomllib
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
from astropy.io import fits

from bgrem import __version__
from bgrem.simulate.drawing import draw
from bgrem.simulate.scene import Scene
from bgrem.simulate.training_sky import random_scene
from bgrem.storage.names import home_path

__all__ = ["draw_numbered", "load_scene", "read_scene", "sky_to_hdus", "write_sky"]

PIXEL_SCALE = 0.56  # arcsec: MeerLICHT's (Bloemen et al. 2016, SPIE 9906, 990664)
FIELD = (90.0, -45.0)  # deg: where the middle of a scene lies on the sky
FINENESS = np.float32(1 / 64)  # adu: step of the parts where the data are whole numbers
SCENE_CARD = "SCENE"  # cards are written as HIERARCH SCENE NAME = value
DRAWING = 1  # the drawing of a scene and the choice of its description have streams of their own
DESCRIPTION = 0


def draw_numbered(scene, *, seed, number, shape=None):
    """Draw the scene of a given number: the same for the same seed, on any machine.

    Parameters
    ----------
    scene : Scene or None
        None draws the description at random from the training sky.
    seed, number : int
        At least 0.
    shape : tuple of int, optional
        (ny, nx) of a random scene in pixels.

    Returns
    -------
    Sky
    """
    if scene is None:
        scene = random_scene(np.random.default_rng([seed, number, DESCRIPTION]), shape=shape)
    return draw(scene, np.random.default_rng([seed, number, DRAWING]))


def load_scene(path, **changes):
    """Read a scene's description from a file.

    Parameters
    ----------
    path : path
        TOML with fields of `Scene`, at the top or in a table ``[scene]``; or a FITS file that
        `write_sky` wrote.
    **changes
        Fields that replace those of the file.

    Returns
    -------
    Scene

    Raises
    ------
    ValueError
        Where a field is unknown, or its value is impossible.
    """
    path = home_path(path)
    if path.suffix.lower() != ".toml":
        scene, _, _ = read_scene(path)
        return make_scene({**asdict(scene), **changes}, str(path))
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML ({error})") from None
    if isinstance(values.get("scene"), dict):
        beside = sorted(set(values) - {"scene", "title", "seed"})
        if beside:
            raise ValueError(f"{path}: {beside[0]} is not understood beside [scene]")
        values = values["scene"]
    return make_scene({**values, **changes}, str(path))


def make_scene(values, source):
    """A scene from a dictionary; `source` begins the message where it cannot be made."""
    known = {entry.name: entry.default for entry in fields(Scene)}
    given = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{source}: a scene has no field {name!r}{_similar(name, known)}")
        given[name] = _typed(name, value, known[name], source)
    try:
        return Scene(**given)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _similar(name, known):
    from difflib import get_close_matches

    matches = get_close_matches(name, known, n=1)
    return f" (is it {matches[0]}?)" if matches else ""


def _typed(name, value, default, source):
    """A value of the type that the field has."""
    if isinstance(default, tuple):
        items = value if isinstance(value, (list, tuple)) else ()
        if len(items) != 2 or not all(_is_number(item, numbers.Integral) for item in items):
            raise ValueError(f"{source}: {name} is {value!r}, not two whole numbers")
        return tuple(int(item) for item in items)
    if not _is_number(value, numbers.Real):
        raise ValueError(f"{source}: {name} is {value!r}, not a number")
    return float(value)


def _is_number(value, kind):
    return isinstance(value, kind) and not isinstance(value, bool)


def sky_to_hdus(sky, *, seed=None, number=0, scale=PIXEL_SCALE, integers=False):
    """The HDUs that describe a drawn scene: DATA, SOURCES, BACKGROUND, NOISE, MASK, TRUTH.

    Parameters
    ----------
    sky : Sky
    seed, number : int, optional
        Those of `draw_numbered`, for the header.
    scale : float
        Arcseconds per pixel.
    integers : bool
        Store the data as whole numbers (they must be: see `whole_numbers`), and the parts in steps
        of `FINENESS`: so they compress well.

    Returns
    -------
    dict of str to HDU
        By the name of the extension, in order.
    """
    header = _header(sky, seed, number, scale)
    data, sources, background = sky.data, sky.sources, sky.background
    if integers:
        data = np.rint(data).astype(np.int32)
        sources, background = (
            np.rint(part / FINENESS) * FINENESS for part in (sources, background)
        )
    planes = {"DATA": data, "SOURCES": sources, "BACKGROUND": background}
    # The noise is what is left of the data as they are stored, so that the parts add up.
    left = data.astype(np.float64) - background - sources
    planes |= {"NOISE": left.astype(np.float32), "MASK": sky.mask}
    hdus = {
        name: fits.ImageHDU(plane, _plane_header(header, name), name=name)
        for name, plane in planes.items()
    }
    hdus["TRUTH"] = fits.BinTableHDU(sky.truth, _truth_header(), name="TRUTH")
    return hdus


def write_sky(path, sky, *, truth_path=None, overwrite=False, **options):
    """Write a drawn scene to a FITS file.

    Parameters
    ----------
    path : path
        A name that ends in ``.fz`` compresses the images in tiles, without loss.
    sky : Sky
    truth_path : path, optional
        File for all but the data, so that `path` looks like an observed frame.
    overwrite : bool
        Replace existing files.
    **options
        See `sky_to_hdus`.

    Raises
    ------
    FileExistsError
        Where a file is there already.
    """
    paths = [Path(path)] + ([Path(truth_path)] if truth_path else [])
    for each in paths:
        if each.exists() and not overwrite:
            raise FileExistsError(f"{each} exists (--overwrite replaces it)")
    hdus = sky_to_hdus(sky, **options)
    groups = [hdus.values()]
    if truth_path:
        groups = [[hdus.pop("DATA")], hdus.values()]
    for each, group in zip(paths, groups, strict=True):
        _write(each, list(group))


def _write(path, hdus):
    """Write HDUs under a temporary name in the same folder, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".fz":
        hdus = [_compressed(hdu) for hdu in hdus]
        hdus.insert(0, fits.PrimaryHDU())
    elif isinstance(hdus[0], fits.ImageHDU):
        # A primary HDU has no EXTNAME of its own accord; it is kept, so that -h DATA finds it.
        hdus[0] = fits.PrimaryHDU(hdus[0].data, hdus[0].header)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        fits.HDUList(hdus).writeto(temporary, checksum=True, overwrite=True)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _compressed(hdu):
    """The image compressed in tiles without loss; a table as it is."""
    if not isinstance(hdu, fits.ImageHDU):
        return hdu
    whole = hdu.data.dtype.kind in "iu"
    return fits.CompImageHDU(
        hdu.data,
        hdu.header,
        name=hdu.name,
        compression_type="RICE_1" if whole else "GZIP_2",
        quantize_level=0.0,
        tile_shape=(min(64, hdu.shape[0]), hdu.shape[1]),
    )


def _header(sky, seed, number, scale):
    """Cards of an observed frame, and those that let the scene be drawn again."""
    scene = sky.scene
    header = fits.Header()
    header["OBJECT"] = ("simulated sky", "made by bgrem-simulate: nothing here is real")
    header["BUNIT"] = ("adu", "unit of the pixel values")
    header["GAIN"] = (scene.gain, "[electron/adu]")
    header["RDNOISE"] = (scene.read_noise, "[electron] read noise")
    if scene.full_well:
        level = scene.full_well / scene.gain + scene.bias
        header["SATURATE"] = (level, "[adu] saturation level")
    header["SEEING"] = (scene.fwhm * scale, "[arcsec] FWHM of the point-spread function")
    header.update(_wcs_cards(scene.shape, scale))
    header["BGR_VERS"] = (__version__, "version of bgrem")
    if seed is not None:
        header["SIMSEED"] = (seed, "seed of the random numbers")
        header["SIMNUM"] = (number, "number of the scene")
    for name, value in asdict(scene).items():
        if name != "shape":
            text = " ".join(map(str, value)) if isinstance(value, tuple) else value
            header[f"HIERARCH {SCENE_CARD} {name}"] = text
    return header


def _wcs_cards(shape, scale):
    """A gnomonic projection with north up and east left."""
    ny, nx = shape
    return fits.Header(
        [
            ("CTYPE1", "RA---TAN"),
            ("CTYPE2", "DEC--TAN"),
            ("CUNIT1", "deg"),
            ("CUNIT2", "deg"),
            ("CRVAL1", FIELD[0]),
            ("CRVAL2", FIELD[1]),
            ("CRPIX1", (nx + 1) / 2),
            ("CRPIX2", (ny + 1) / 2),
            ("CDELT1", -scale / 3600.0),
            ("CDELT2", scale / 3600.0),
            ("RADESYS", "ICRS"),
        ]
    )


def _plane_header(header, name):
    """The header of one plane: the scene's description stands with the data."""
    if name == "DATA":
        return header.copy()
    plane = fits.Header([card for card in header.cards if _belongs_to_all(card.keyword)])
    if name == "MASK":
        del plane["BUNIT"]
        plane["COMMENT"] = "bits: 1 filled gap, 2 saturated, 4 defect, particle, trail, bleeding"
    return plane


def _belongs_to_all(keyword):
    wcs = ("CTYPE", "CUNIT", "CRVAL", "CRPIX", "CDELT", "RADESYS")
    return keyword == "BUNIT" or keyword.startswith(wcs)


def _truth_header():
    header = fits.Header()
    header["COMMENT"] = "x, y: pixels, the centre of the first pixel is 0. flux: total, in adu."
    header["COMMENT"] = "snr: in an optimal filter on the scene's nominal sky noise."
    header["COMMENT"] = "kind: 0 star, 1 galaxy, 2 large galaxy or disc."
    header["COMMENT"] = "half_light_radius: pixels, before the point-spread function."
    return header


def read_scene(path):
    """What is needed to draw a scene again, from its FITS file.

    Parameters
    ----------
    path : path

    Returns
    -------
    scene : Scene
    seed, number : int or None
        For `draw_numbered`.

    Raises
    ------
    ValueError
        Where the file describes no scene.
    """
    try:
        with fits.open(path) as hdus:
            headers = [hdu.header for hdu in hdus]
    except OSError as error:
        if not Path(path).exists():
            raise
        raise ValueError(f"{path}: neither TOML nor FITS ({error})") from None
    mark = f"{SCENE_CARD} FWHM"
    header = next((header for header in headers if mark in header), None)
    if header is None:
        raise ValueError(f"{path}: describes no scene")
    values = {"shape": (header["NAXIS2"], header["NAXIS1"])}
    for entry in fields(Scene):
        key = f"{SCENE_CARD} {entry.name.upper()}"
        if key in header:
            value = header[key]
            pair = isinstance(entry.default, tuple)
            values[entry.name] = [int(item) for item in value.split()] if pair else value
    return make_scene(values, str(path)), header.get("SIMSEED"), header.get("SIMNUM")


def whole_numbers(scene):
    """The scene with a quantisation of exactly one data unit, (dict of changes)."""
    if not math.isclose(scene.bias, round(scene.bias)):
        raise ValueError(f"bias is {scene.bias:g}: integers need a whole number")
    return {"quantisation": scene.gain / scene.sky_rms}
