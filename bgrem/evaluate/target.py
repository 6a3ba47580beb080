"""A user's frame, and sources of known flux drawn into it with the PSF of the frame.

What is needed is measured on the frame: the PSF from its bright stars (their width alone where they
are few), the noise of a point source's flux from the matched filter's own values (their lower half:
neighbouring pixels may be correlated, and the upper half holds the sources), the steps of whole
numbers from the data.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from bgrem.arrays.stamps import add_stamp
from bgrem.detection.frame import measure_frame
from bgrem.detection.point_sources import matched_filter_snr
from bgrem.detection.psf import GAUSSIAN_FWHM, gaussian_psf, measure_psf, noise_pixels, psf_fwhm
from bgrem.detection.sextractor import Subtracted, subtract_sky
from bgrem.evaluate.pair import lower_half
from bgrem.evaluate.truth import matching_radius
from bgrem.io.header_facts import gain_of_header
from bgrem.io.reading import as_planes, read_image
from bgrem.masks.areas import grown, inner, inside
from bgrem.simulate.detector import add_light, light_of_stars
from bgrem.simulate.scene import GALAXY, STAR

__all__ = [
    "GALAXY", "INJECTED", "SEEN_SIGMA", "SNR_LIMITS", "STAR", "Injection", "Target",
    "inject", "make_target", "middle_of", "read_target",
]  # fmt: skip

#: Longest side of what is looked at of a frame, pixels: the middle of larger ones.
LONGEST_SIDE = 2048
#: S/N of the injected sources: most are even in the logarithm up to the second, the rest beyond.
SNR_LIMITS = (1.0, 20.0, 1000.0)
FAINT_SHARE = 0.75
#: Part of them that are galaxies, and the range of their half-light radii in FWHM.
GALAXY_SHARE = 0.2
GALAXY_RADII = (0.5, 2.0)
#: Mean distance between injected sources in FWHM, and the least in pixels.
SPACING, LEAST_SPACING = 8.0, 12.0
#: Sources injected at once, at most.
MOST_AT_ONCE = 1500
#: Something is there from this S/N of the matched filter on.
SEEN_SIGMA = 3.5
#: Sky level in units of its noise from which a frame is taken to hold all its photons.
PHOTON_LEVEL = 5.0
INJECTED = np.dtype(
    [("x", "f8"), ("y", "f8"), ("flux", "f8"), ("snr", "f8"), ("kind", "u1"), ("radius", "f8")]
)


@dataclass(frozen=True, eq=False)
class Target:
    """A frame into which sources are drawn.

    Attributes
    ----------
    name : str
    data : (ny, nx) float32
    mask : (ny, nx) bool
        Bad pixels.
    psf : (n, n) float64
        Unit sum.
    gain : float or None
        Electrons per data unit.
    gain_source : str
        Where the gain comes from.
    step : float
        Step between possible values of the data; 0 for none.
    subtracted : bgrem.detection.sextractor.Subtracted
        The frame without its sky.
    psf_source : str
        Where the PSF comes from.
    noise : (ny, nx) float64
        Standard deviation of a point source's flux.
    spread : float
        Standard deviation of the noise in the matched filter's S/N: above 1 where the noise of
        neighbouring pixels is correlated, or the sky has structure.
    significance : (ny, nx) float64
        S/N of the matched filter, divided by that.
    usable : (ny, nx) bool
        Pixels in which sources may be injected and are judged.
    """

    name: str
    data: np.ndarray
    mask: np.ndarray
    psf: np.ndarray
    psf_source: str
    gain: float | None
    gain_source: str
    step: float
    subtracted: Subtracted
    noise: np.ndarray
    spread: float
    significance: np.ndarray
    usable: np.ndarray

    @property
    def fwhm(self):
        """FWHM of the PSF in pixels."""
        return psf_fwhm(self.psf)

    @property
    def seen(self):
        """(ny, nx) bool: within the matching radius of something that the matched filter sees."""
        return grown(self.significance >= SEEN_SIGMA, matching_radius(self.fwhm))


@dataclass(frozen=True, eq=False)
class Injection:
    """A frame with sources drawn into it.

    Attributes
    ----------
    data : (ny, nx) float32
    light : (ny, nx) float64
        What was added, without its photon noise.
    sources : structured array
        `INJECTED`: position, flux (data units), S/N, kind (STAR or GALAXY), half-light radius (px).
    """

    data: np.ndarray
    light: np.ndarray
    sources: np.ndarray


def read_target(path, *, hdu=None, fwhm=None, gain=None, largest=LONGEST_SIDE):
    """Read a frame and measure what injecting needs.

    Parameters
    ----------
    path : str or path
        FITS file.
    hdu : int or str, optional
        As for `bgrem.io.reading.read_image`.
    fwhm : float, optional
        FWHM in pixels of a Gaussian PSF; by default the PSF is measured.
    gain : float, optional
        Electrons per data unit; by default that of the header.
    largest : int
        Longest side in pixels: the middle of larger frames.

    Returns
    -------
    Target

    Raises
    ------
    ValueError
        If the file holds no image, or the frame too few stars for its PSF.
    """
    image = read_image(path, hdu)
    plane = middle_of(as_planes(image.data)[0], largest)
    source = "given"
    if gain is None:
        gain, source = gain_of_header(image.header)
    return make_target(plane, name=Path(path).name, fwhm=fwhm, gain=gain, gain_source=source)


def middle_of(image, largest=LONGEST_SIDE):
    """The middle of an image, at most `largest` pixels a side."""
    cut = tuple(
        slice(max(0, (size - largest) // 2), max(0, (size - largest) // 2) + min(size, largest))
        for size in image.shape
    )
    return image[cut]


def make_target(data, *, name="frame", mask=None, fwhm=None, gain=None, gain_source="given"):
    """Measure on a frame what injecting needs.

    Without a gain, that of a frame whose noise is all photons of the sky is taken where the sky's
    level stands far above its noise; sky-subtracted frames get none, and sources no photon noise.

    Parameters
    ----------
    data : (ny, nx) array
    name : str
    mask : (ny, nx) bool, optional
        Bad pixels; those that are not finite are added.
    fwhm : float, optional
        FWHM in pixels of a Gaussian PSF; by default the PSF is measured.
    gain : float, optional
        Electrons per data unit.
    gain_source : str
        Where the gain comes from.

    Returns
    -------
    Target
    """
    data = np.ascontiguousarray(data, dtype=np.float32)
    bad = ~np.isfinite(data)
    if mask is not None:
        bad |= np.asarray(mask, dtype=bool)
    if bad.all():
        raise ValueError(f"{name}: no good pixel")
    subtracted = subtract_sky(data, mask=bad, passes=2)
    psf, psf_source = _psf_of(subtracted, bad, fwhm)
    if gain is None:
        gain, gain_source = _gain_of_photons(data, subtracted, bad)
    plane = matched_filter_snr(data, psf, mask=bad, gain=gain)
    _, spread = lower_half(plane[plane != 0])
    noise = subtracted.rms * noise_pixels(psf) ** 0.5 * spread
    wide = psf_fwhm(psf)
    usable = inner(data.shape, max(8, int(np.ceil(2 * wide)))) & ~grown(bad, wide)
    if not usable.any():
        raise ValueError(f"{name}: no room for sources of {wide:.1f} pixels between bad pixels")
    return Target(
        name=name, data=data, mask=bad, psf=psf, psf_source=psf_source, gain=gain,
        gain_source=gain_source, step=_step(data, bad), subtracted=subtracted,
        noise=noise.astype(np.float64), spread=spread, significance=plane / spread, usable=usable,
    )  # fmt: skip


def _psf_of(subtracted, bad, fwhm):
    """The PSF of a frame, and where it comes from.

    Where bright isolated stars are too few for it, a Gaussian of the width that bgrem itself measures.
    """
    if fwhm is not None:
        return gaussian_psf(fwhm), "given"
    try:
        return measure_psf(subtracted.residual, subtracted.rms, mask=bad), "stars"
    except ValueError:
        width = measure_frame(subtracted.residual / subtracted.rms, bad).measured_fwhm
        if not np.isfinite(width):
            raise
    # The width is that of the image; the Gaussian is integrated over pixels once more.
    inner_width = np.sqrt(max(width**2 - GAUSSIAN_FWHM**2 / 12, 0.5))
    return gaussian_psf(inner_width), "width of the stars"


def _gain_of_photons(data, subtracted, bad):
    """The gain with which the sky's photons alone make its noise, of a raw frame."""
    level = float(np.median((data - subtracted.residual)[~bad]))
    rms = float(np.median(subtracted.rms[~bad]))
    if level <= PHOTON_LEVEL * rms:
        return None, "unknown"
    return level / rms**2, "sky's noise"


def _step(data, bad):
    """1 where all data are whole numbers, else 0."""
    good = data[~bad]
    return float(np.array_equal(good, np.rint(good)))


def inject(target, rng):
    """Draw sources of known flux into a frame, once.

    They lie on a grid of random offset, each moved at random by up to a quarter of its step, so that
    they do not crowd one another; where they fall on the frame's own sources is left to chance.

    Parameters
    ----------
    target : Target
    rng : numpy.random.Generator

    Returns
    -------
    Injection
    """
    x, y = _places(target, rng)
    sources = np.zeros(x.size, dtype=INJECTED)
    sources["x"], sources["y"], sources["snr"] = x, y, _draw_snr(x.size, rng)
    if find_spec("galsim"):
        sources["kind"] = np.where(rng.random(x.size) < GALAXY_SHARE, GALAXY, STAR)
    noise = target.noise[np.rint(y).astype(int), np.rint(x).astype(int)]
    sources["flux"] = sources["snr"] * noise
    stars = sources[sources["kind"] == STAR]
    shape = target.data.shape
    light = light_of_stars(shape, stars["x"], stars["y"], stars["flux"], target.psf)
    _add_galaxies(light, target, sources, rng)
    with np.errstate(invalid="ignore"):
        data = add_light(target.data, light, rng=rng, gain=target.gain, step=target.step)
    return Injection(data, light, sources)


def _places(target, rng):
    """Positions of the sources of one injection."""
    step = max(SPACING * target.fwhm, LEAST_SPACING)
    lines = [np.arange(rng.uniform(0, step), size, step) for size in target.data.shape]
    y, x = (axis.ravel() for axis in np.meshgrid(*lines, indexing="ij"))
    x, y = (axis + rng.uniform(-step / 4, step / 4, axis.size) for axis in (x, y))
    kept = np.flatnonzero(inside(target.usable, x, y))
    kept = rng.permutation(kept)[:MOST_AT_ONCE]
    return x[kept], y[kept]


def _draw_snr(count, rng):
    """S/N, most of them even in the logarithm between the limit and 20."""
    low, middle, high = np.log(SNR_LIMITS)
    faint = rng.random(count) < FAINT_SHARE
    return np.exp(
        np.where(faint, rng.uniform(low, middle, count), rng.uniform(middle, high, count))
    )


def _add_galaxies(light, target, sources, rng):
    """Draw the galaxies among the sources; their flux and radius are written into the table.

    The S/N of a galaxy is that of a filter of its own shape: more pixels, more flux.
    """
    galaxies = np.flatnonzero(sources["kind"] == GALAXY)
    if not galaxies.size:
        return
    from bgrem.simulate.galaxies import draw_extended

    psf = SimpleNamespace(image=target.psf)
    for i in galaxies:
        radius = target.fwhm * np.exp(rng.uniform(*np.log(GALAXY_RADII)))
        stamp = draw_extended(psf, rng, radius=radius)
        pixels = noise_pixels(stamp.astype(np.float64))
        sources["radius"][i] = radius
        sources["flux"][i] *= (pixels / noise_pixels(target.psf)) ** 0.5
        # Galaxies are centred on pixels; the stamps are too smooth for it to matter.
        column, row = round(float(sources["x"][i])), round(float(sources["y"][i]))
        sources["x"][i], sources["y"][i] = column, row
        half = stamp.shape[0] // 2
        add_stamp(light, sources["flux"][i] * stamp, column - half, row - half)
