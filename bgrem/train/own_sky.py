"""Training skies made of a telescope's own frames, which have no truth.

A frame gives the noise between its sources, with its correlation, pattern and defects; the
large-scale background; the PSF, measured on its stars; and the number of stars at each brightness.
Sources of known truth are drawn into such a sky.

The noise is taken **mirrored** at the sky level. Undetected sources lie between the detected
ones, and a network trained with them as noise would learn to remove them. Mirrored they are faint
holes, while a positive fluctuation of the mirrored sky is a negative one of the real sky and holds
no source. Noise is symmetric except for few photons, defects and particles: pixels that the model
takes for artefacts are not mirrored, nor are those that are sharper than any star of the frame, with the pixels
around them. Mirrored, a camera's warm pixels would become holes, and the network would forget them. Detected sources
are replaced by the noise of another place of the frame.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from bgrem.background import separate
from bgrem.detection.peaks import local_maxima
from bgrem.detection.psf import GAUSSIAN_FWHM, sharper_than_stars
from bgrem.evaluate.target import SEEN_SIGMA, make_target, middle_of
from bgrem.inference.model import INCLUDED, optical_model
from bgrem.io.filter_arrays import mosaic_cell
from bgrem.io.header_facts import gain_of_header
from bgrem.io.reading import as_planes, read_image
from bgrem.io.scales import check_linear
from bgrem.masks.areas import grown
from bgrem.masks.flags import ARTEFACT, UNSEEN
from bgrem.simulate import PointSpread, Scene, Sky, draw_psf
from bgrem.simulate.detector import add_light
from bgrem.simulate.drawing import draw_sources
from bgrem.simulate.optics import PHASES
from bgrem.simulate.scene import DEFECT_BIT, GAP_BIT
from bgrem.train.parents import simulated_sky

__all__ = [
    "LARGEST_OWN",
    "OwnSkies",
    "OwnSky",
    "draw_own",
    "make_own_sky",
    "read_own_sky",
    "skies_of",
    "training_rows",
]

PACKAGED = INCLUDED / "optical.onnx"  # distinguishes sources from artefacts
MULTIPLE = 64  # px: sides of skies are multiples of it, as networks ask for
SMALLEST_OWN = 192  # px: a narrower frame holds no training tile
LARGEST_OWN = 2048  # px: of a larger frame the middle
MOST_BAD = 0.5  # part of a frame; of one with more the training would see little
SEEN_LIGHT = 0.5  # sky rms: pixels with more light of sources are none of the sky
# Of the brightest pixel: brighter ones are the cores of bright stars, whatever the model takes them for.
SATURATED_PART = 0.8
KEPT_APART = (
    4  # the last of 4 equal parts of a frame's rows is kept apart, to judge the model on it
)
LEAST_SKY = 0.05  # part of a frame that must lie between its sources
FILLINGS = 40  # places that are tried to fill what sources covered; each fills most of the rest
COUNTED = (8.0, 40.0)  # S/N of the peaks from which the counts are measured
FEWEST_COUNTED = 10
USUAL_SLOPE = 0.8  # of cumulative counts; see `bgrem.simulate.Scene`
SLOPES = (0.4, 1.4)
DENSITIES = (10.0, 6e4)  # stars per Mpix of S/N >= 1, as the simulated skies have them
REFINEMENT = (0.2, 5.0)  # of a model PSF by the measured one


@dataclass(frozen=True, eq=False)
class OwnSky:
    """What is taken of one frame, in units of its sky's rms.

    Attributes
    ----------
    noise, background : (ny, nx) float32
        The mirrored noise, defects as they are, and the sky's level less its median.
    sky : (ny, nx) bool
        Between the sources.
    defect, bad : (ny, nx) bool
        Pixels that are taken for artefacts, and those without data.
    psf : PointSpread
    fwhm : float
        Of the PSF in pixels.
    spread : float
        Noise of a point source's flux over that in white noise of the same rms.
    stars, slope, brightest : float
        Counts of the sources: per Mpix of S/N >= 1, the slope of the cumulative counts, and the S/N
        of the brightest.
    gain : float or None
        Electrons per unit.
    step : float
        Between possible values; 0 for none.
    """

    noise: np.ndarray
    background: np.ndarray
    sky: np.ndarray
    defect: np.ndarray
    bad: np.ndarray
    psf: PointSpread
    fwhm: float
    spread: float
    stars: float
    slope: float
    brightest: float
    gain: float | None
    step: float


@dataclass(frozen=True)
class OwnSkies:
    """Training skies of which a share is made of a telescope's own frames, the others are simulated.

    An instance is called as `bgrem.train.parents.simulated_sky`; it can be sent to other processes.

    Parameters
    ----------
    paths : tuple of str
        FITS files.
    share : float
        Of the own skies.
    judged : str
        A file of which the last rows are not seen; see `training_rows`.
    """

    paths: tuple[str, ...]
    share: float = 1.0
    judged: str = ""

    def __call__(self, rng, size):
        """A sky of at most `size` pixels a side."""
        if rng.random() >= self.share:
            return simulated_sky(rng, size)
        path = self.paths[rng.integers(len(self.paths))]
        return draw_own(read_own_sky(path, apart=path == self.judged), rng, size)


def skies_of(config, *, share=None):
    """What draws the skies of a training: `bgrem.train.parents.simulated_sky`, or `OwnSkies`.

    Parameters
    ----------
    config : TrainingConfig
    share : float, optional
        Of the own skies where there are frames; by default the configuration's.

    Returns
    -------
    callable
    """
    if not config.frames:
        return simulated_sky
    return OwnSkies(config.frames, config.own if share is None else share, config.judged)


def training_rows(height):
    """How many rows, from the first on, the training sees of a frame on which its model is judged."""
    return height - max(height // KEPT_APART, 1)


@lru_cache(maxsize=16)
def read_own_sky(path, *, apart=False):
    """Take what is needed of a FITS file's image; of a cube, of its first plane.

    Parameters
    ----------
    path : str
    apart : bool
        Whether the last rows are kept apart.

    Returns
    -------
    OwnSky

    Raises
    ------
    ValueError
        In one sentence with the file: no image, an output of bgrem, a colour mosaic, too small, too
        many bad pixels, too few stars for the PSF, or hardly any sky.
    """
    image = read_image(path, None)
    check_linear(image.header, image.label)
    plane = middle_of(as_planes(image.data)[0], LARGEST_OWN)
    if "BGR_VERS" in image.header:
        raise ValueError(f"{path}: an output of bgrem, whose noise is gone: give the original")
    if mosaic_cell(image.data, image.header):
        raise ValueError(f"{path}: a colour mosaic; train on one colour of it, a file of its own")
    if apart:
        plane = plane[: training_rows(len(plane))]
    if min(plane.shape) < SMALLEST_OWN:
        raise ValueError(f"{path}: narrower than {SMALLEST_OWN} pixels, too small to train on")
    gain, _ = gain_of_header(image.header)
    try:
        return make_own_sky(plane, gain=gain)
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removesuffix(': give its FWHM')}") from None


def make_own_sky(data, *, gain=None, model=PACKAGED):
    """Take what is needed of an image.

    Parameters
    ----------
    data : (ny, nx) array
    gain : float, optional
        Electrons per data unit.
    model : str, path or `~bgrem.inference.model.Model`
        Tells sources from artefacts.

    Returns
    -------
    OwnSky

    Raises
    ------
    ValueError
        If there are too many bad pixels, too few stars for the PSF, or there is hardly any sky.
    """
    network = optical_model(model, threads=1)
    parts = separate(data, model=network)
    rms = np.float32(parts.provenance["rms"])
    bad = (parts.mask & UNSEEN) != 0
    if bad.mean() > MOST_BAD:
        raise ValueError(f"{bad.mean():.0%} of its pixels are bad")
    rest = np.where(bad, 0.0, (data - parts.background) / rms).astype(np.float32)
    saturated = rest >= SATURATED_PART * rest.max()
    defect = ((parts.mask & ARTEFACT) != 0) & ~saturated
    # Hot pixels must not be taken for sharp stars.
    target = make_target(data, mask=defect, gain=gain)
    seen = (target.significance >= SEEN_SIGMA) | (parts.sources > SEEN_LIGHT * parts.rms)
    sharp = sharper_than_stars(rest, target.psf) & ~saturated & ~bad
    as_seen = defect | grown(sharp, 1.0)
    sky = ~grown((seen & ~as_seen) | saturated, target.fwhm) & ~bad
    defect |= sharp
    if sky.mean() < LEAST_SKY:
        raise ValueError(f"hardly any sky is left between its sources ({sky.mean():.0%})")
    stars, slope, brightest = _counts(target)
    return OwnSky(
        noise=np.where(as_seen, rest, -rest),
        background=((parts.background - parts.provenance["level"]) / rms).astype(np.float32),
        sky=sky, defect=defect, bad=bad, psf=_point_spread(target.psf, target.fwhm),
        fwhm=target.fwhm, spread=target.spread, stars=stars, slope=slope, brightest=brightest,
        gain=target.gain * float(rms) if target.gain else None, step=target.step / float(rms),
    )  # fmt: skip


def _counts(target):
    """Stars per Mpix of S/N >= 1, slope of the cumulative counts, S/N of the brightest."""
    peaks = local_maxima(target.significance, threshold=COUNTED[0], usable=target.usable)
    snr = peaks["score"]
    many, few = (np.count_nonzero(snr >= limit) for limit in COUNTED)
    slope = USUAL_SLOPE
    if few >= FEWEST_COUNTED:
        slope = np.log(many / few) / np.log(COUNTED[1] / COUNTED[0])
    slope = float(np.clip(slope, *SLOPES))
    density = many * COUNTED[0] ** slope / (np.count_nonzero(target.usable) / 1e6)
    return float(np.clip(density, *DENSITIES)), slope, float(max(snr.max(initial=0.0), 100.0))


def _point_spread(image, fwhm):
    """The measured PSF, with the wings of a Moffat profile beyond where it could be measured."""
    inner = np.sqrt(max(fwhm**2 - GAUSSIAN_FWHM**2 / 12, 0.5))
    model = draw_psf(fwhm=inner, beta=3.0, aureole=0.01)
    half = min(image.shape[0] // 2, model.radius)
    middle = image.shape[0] // 2
    measured = image[middle - half : middle + half + 1, middle - half : middle + half + 1]
    cut = slice(model.radius - half, model.radius + half + 1)
    drawn = model.image[cut, cut].astype(np.float64)
    radius = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    # Where the measured wings are noise the model alone is better.
    weight = np.clip(1.0 - (radius - fwhm) / max(half - fwhm, 1.0), 0.0, 1.0)
    ratio = measured / measured.sum() * drawn.sum() / np.maximum(drawn, 1e-12)
    ratio = 1.0 + weight * (np.clip(ratio, *REFINEMENT) - 1.0)
    at = (np.arange(model.fine.shape[0]) - model.fine.shape[0] // 2) / PHASES + half
    places = np.meshgrid(at, at, indexing="ij")
    fine = model.fine * ndimage.map_coordinates(ratio, places, order=1, mode="nearest")
    total = fine.sum() / PHASES**2 + model.wings.sum()
    return PointSpread(
        fine=(fine / total).astype(np.float32), wings=model.wings / np.float32(total)
    )


def draw_own(own, rng, size):
    """A sky of a frame's own noise and background, with drawn sources.

    Parameters
    ----------
    own : OwnSky
    rng : numpy.random.Generator
    size : int
        Largest side in pixels.

    Returns
    -------
    Sky
        Square, in units of the frame's sky rms.
    """
    side = min(size, *own.noise.shape) // MULTIPLE * MULTIPLE
    top, left = (int(rng.integers(n - side + 1)) for n in own.noise.shape)
    cut = slice(top, top + side), slice(left, left + side)
    noise, defect = _filled(own, cut, rng)
    background, bad = own.background[cut], own.bad[cut]
    scene = _scene(own, side, rng)
    sources, truth = draw_sources(scene, own.psf, rng)
    data = add_light(background + noise, sources, rng=rng, gain=own.gain)
    if own.step:  # mirrored at a smooth level, the noise has left its grid
        data = (np.rint(data / own.step) * own.step).astype(np.float32)
    data[bad] = background[bad]
    sources[bad] = 0.0
    return Sky(
        data=data,
        sources=sources,
        background=background,
        noise=data - background - sources,
        rms=np.ones_like(background),
        mask=(GAP_BIT * bad + DEFECT_BIT * (defect & ~bad)).astype(np.uint8),
        truth=truth,
        psf=own.psf,
        scene=scene,
    )


def _filled(own, cut, rng):
    """Noise and defects of a window, with those of other places where sources were seen."""
    noise, sky = own.noise[cut].copy(), own.sky[cut].copy()
    defect = own.defect[cut] & sky
    height, width = own.noise.shape
    rows, columns = (np.arange(part.start, part.stop) for part in cut)
    for _ in range(FILLINGS):
        if sky.all():
            break
        place = np.ix_(
            (rows + rng.integers(height)) % height, (columns + rng.integers(width)) % width
        )
        # Every defect stays the only one of its kind.
        taken = ~sky & own.sky[place] & ~own.defect[place]
        noise[taken] = own.noise[place][taken]
        sky |= taken
    noise[~sky] = rng.standard_normal(np.count_nonzero(~sky), dtype=np.float32)
    return noise, defect


def _scene(own, side, rng):
    """Sources like those of the frame, in numbers and brightness somewhat other each time."""
    stars = float(np.clip(own.stars * rng.lognormal(0.0, 0.4), *DENSITIES))
    galaxies = 0.0 if rng.random() < 0.35 else stars * rng.uniform(0.02, 0.5)
    return Scene(
        shape=(side, side), fwhm=float(np.clip(own.fwhm, 0.5, 40.0)),
        stars=stars, star_slope=float(np.clip(own.slope + rng.normal(0, 0.1), *SLOPES)),
        galaxies=galaxies, galaxy_radius=float(np.exp(rng.uniform(*np.log([0.6, 4.0])))),
        brightest=2.0 * own.brightest, large_galaxies=0.3, discs=0.3,
        # The unit is the sky's rms; a source's S/N is that in the frame's correlated noise.
        sky=own.spread**2, read_noise=0.0, gain=1.0,
    )  # fmt: skip
