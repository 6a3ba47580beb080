"""Methods that find the background of an image: bgrem in several ways, SExtractor, photutils and NoiseChisel.

Each takes an image in which bad pixels are NaN and gives what it finds as `Found`.
"""

import shutil
import subprocess
import tempfile
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from other_checkout import OtherCheckout
from report_card import show_progress

from bgrem.background import separate
from bgrem.detection.sextractor import clean_input, subtract_sky

__all__ = ["BACKGROUND", "Found", "methods_of"]

#: The row whose wide light is in the background.
BACKGROUND = "bgrem --extended background"
MESHES = (64, 256)  # px, SExtractor's
BOX = 128  # px, photutils'
#: Threshold in sigma, least area and margin in pixels of the objects that are masked for photutils, and the
#: percentage of a box that may be masked.
OBJECTS, MASKED = (2.0, 10, 10), 90.0
NOISECHISEL = "astnoisechisel"
#: Its defaults, and looser settings for small and crowded frames, on which it stops.
NOISECHISEL_SETTINGS = (
    (), ("--tilesize=20,20", "--minskyfrac=0.3"),
    ("--tilesize=15,15", "--minskyfrac=0.2", "--interpnumngb=5", "--minnumfalse=20"),
)  # fmt: skip


class Found(NamedTuple):
    """What a method finds in an image, (ny, nx) each; None where it has no such map."""

    background: np.ndarray
    sources: np.ndarray | None = None
    significance: np.ndarray | None = None


def methods_of(options, model):
    """The methods that are asked for and installed, by their names."""
    methods = {
        "bgrem": partial(with_bgrem, model=model),
        "bgrem --sky mesh": partial(with_bgrem, model=model, sky="mesh"),
        BACKGROUND: partial(with_bgrem, model=model, extended="background"),
    }
    methods |= {f"bgrem {box} px": partial(with_bgrem, model=model, box=box) for box in options.box}
    if options.other:
        other = OtherCheckout(options.other, threads=options.threads)
        methods[other.name] = lambda data: Found(*other(data))
    methods |= {f"sextractor {mesh} px": partial(with_mesh, mesh=mesh) for mesh in MESHES}
    methods |= {f"photutils {BOX} px": with_photutils, "noisechisel": with_noisechisel}
    if options.methods:
        if unknown := set(options.methods) - set(methods):
            raise SystemExit(f"no methods {sorted(unknown)}: {', '.join(methods)}")
        methods = {name: methods[name] for name in options.methods}
    missing = [("photutils", find_spec("photutils")), ("noisechisel", shutil.which(NOISECHISEL))]
    for program in (program for program, found in missing if not found):
        show_progress(options, f"{program}: left out, it is not installed")
        methods = {name: run for name, run in methods.items() if not name.startswith(program)}
    return methods


def with_bgrem(data, *, model, **changes):
    parts = separate(data, model=model, maps=("significance",), **changes)
    significance = None if parts.significance is None else np.asarray(parts.significance)
    return Found(np.asarray(parts.background), np.asarray(parts.sources), significance)


def with_mesh(data, *, mesh):
    return Found(clean_input(data, None)[0] - subtract_sky(data, mesh=mesh).residual)


def with_photutils(data):
    """A first background finds the objects, which are masked for the second."""
    from photutils.background import Background2D
    from photutils.segmentation import detect_sources
    from photutils.utils import circular_footprint

    bad = ~np.isfinite(data)
    box = min(BOX, *data.shape)
    first = Background2D(data, box, mask=bad, exclude_percentile=MASKED)
    sigma, area, margin = OBJECTS
    residual = data - first.background
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # photutils warns where it finds nothing
        objects = detect_sources(residual, sigma * first.background_rms, area, mask=bad)
    if objects is None:
        return Found(first.background)
    mask = bad | objects.make_source_mask(footprint=circular_footprint(margin))
    return Found(Background2D(data, box, mask=mask, exclude_percentile=MASKED).background)


def with_noisechisel(data):
    """The SKY of the first settings with which the program succeeds."""
    from astropy.io import fits

    image = data.astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        fits.writeto(Path(folder, "image.fits"), image)
        command = [NOISECHISEL, "image.fits", "--hdu=0", "--output=sky.fits", "--numthreads=1"]
        for settings in NOISECHISEL_SETTINGS:
            done = subprocess.run(
                [*command, "--quiet", *settings], cwd=folder, check=False, capture_output=True
            )
            if done.returncode == 0:
                sky = fits.getdata(Path(folder, "sky.fits"), "SKY")
                return Found(sky.astype(np.float64))
    raise ValueError(f"{NOISECHISEL} finds no sky")
