"""Other ways to detect sources in counts maps, and to smooth counts maps.

- `ts_map`: the square root of the test statistic of a point source, by gammapy (`TSMapEstimator`; Stewart 2009, A&A
  495, 989), with any background: the true one, one that is 20 % too low, one without a component, one from a ring;
- `li_ma_map`: on and off counts in discs and rings (Li & Ma 1983, ApJ 272, 317);
- `wavelet_map`: the starlet transform of the map after Anscombe's transform;
- `detect_by_sep`: SEP as arXiv:2510.04718 uses it on counts, at every threshold;
- `smoothed_by_gaussian`, `smoothed_adaptively`: expected counts by smoothing, the latter by gammapy (ASmooth, Ebeling et
  al. 2006, MNRAS 368, 65).

gammapy is imported where it is needed; without it a sentence says so.
"""

import warnings
from functools import partial
from importlib.util import find_spec

import numpy as np
import sep
from scipy import ndimage
from scipy.signal import fftconvolve
from scipy.special import xlogy

from bgrem.arrays.statistics import FWHM_PER_SIGMA
from bgrem.counts_training.counts_froc import field_fwhm
from bgrem.detection.detect import detect_peaks
from bgrem.detection.sextractor import (
    DEFAULT_AREA,
    DEFAULT_CONV,
    DEFAULT_MESH,
    Subtracted,
    extract,
    scan_thresholds,
    threshold_ladder,
)
from bgrem.evaluate.baselines import starlet

__all__ = [
    "NO_GAMMAPY", "anscombe", "baseline_methods", "detect_by_sep", "flat_field", "has_gammapy",
    "li_ma", "li_ma_map", "ring_counts", "smoothed_adaptively", "smoothed_by_gaussian", "ts_map",
    "wavelet_map", "without_diffuse", "without_isotropic",
]  # fmt: skip

NO_GAMMAPY = "gammapy is not installed (pip install gammapy): its TS maps and ASmooth are left out"
#: A background that is too low keeps this part.
LOW = 0.8
#: Radius of the on disc and radii of the off ring, FWHM. The disc of the best S/N of a Gaussian on a flat background
#: has 0.67 FWHM.
ON_RADIUS, RING = 0.67, (2.0, 4.0)
#: Least background of a TS map, over the mean: gammapy skips pixels without a background.
LEAST_BACKGROUND = 1e-3
BIN = 0.1  # degrees, of the maps that gammapy is given; no result depends on it
UNIT_EXPOSURE = 1e10  # cm2 s
WAVELET_SCALES, MOST_CLIPS, CLIPPED_AT = 5, 5, 3.0
FILLING_SIGMA = 4.0  # px, of what replaces pixels without exposure


def has_gammapy():
    """Whether gammapy is installed."""
    return find_spec("gammapy") is not None


def baseline_methods():
    """The methods that detect without bgrem: name -> function of a CountsSky.

    Returns
    -------
    dict
        Without gammapy it has no TS maps.
    """
    by_ts = {
        "TS, true background": lambda sky: sky.background,
        "TS, background 20 % low": lambda sky: LOW * sky.background,
        "TS, no isotropic": without_isotropic,
        "TS, no diffuse": without_diffuse,
        "TS, ring": lambda sky: ring_counts(sky)[2],
        "TS, flat": flat_field,
    }
    methods = {"Li & Ma": li_ma_map, "wavelets": wavelet_map, "SEP": detect_by_sep}
    methods["SEP, filter of the PSF"] = partial(detect_by_sep, matched=True)
    if has_gammapy():
        methods = {name: _ts_method(background) for name, background in by_ts.items()} | methods
    return methods


def _ts_method(background_of):
    def method(sky):
        counts, exposure, psf = _one_band(sky)
        background = np.asarray(background_of(sky), dtype=np.float64)
        if background.ndim > 2:
            background = background.sum(axis=0)
        return ts_map(counts, background, psf, exposure=exposure)

    return method


def _one_band(sky):
    """Counts of all bands (ny, nx), exposure and PSF as the counts weigh them, float64."""
    weight = sky.counts.sum(axis=(1, 2)) + 1e-9
    weight = weight / weight.sum()
    exposure, psf = (np.tensordot(weight, plane, axes=1) for plane in (sky.exposure, sky.psf))
    return sky.counts.sum(axis=0).astype(np.float64), exposure, psf / psf.sum()


# ---- gammapy ---------------------------------------------------------------------------


def ts_map(counts, background, psf, *, exposure=None):
    """Square root of the test statistic of a point source in each pixel, by gammapy's TSMapEstimator.

    Parameters
    ----------
    counts, background : (ny, nx) array
        Counts and expected counts.
    psf : (n, n) array
        Image of the PSF, n odd; a source is as wide everywhere.
    exposure : (ny, nx) array, optional
        Relative exposure, 0 where nothing was seen.

    Returns
    -------
    (ny, nx) float64
        Negative where the best flux is; nan without exposure.

    Raises
    ------
    ModuleNotFoundError
        If gammapy is not installed.
    """
    from gammapy.datasets import MapDataset
    from gammapy.estimators import TSMapEstimator
    from gammapy.maps import WcsNDMap
    from gammapy.modeling.models import PointSpatialModel, PowerLawSpectralModel, SkyModel

    counts = np.asarray(counts, dtype=np.float64)
    exposure = np.ones_like(counts) if exposure is None else np.asarray(exposure, np.float64)
    seen = exposure > 0
    background = np.asarray(background, dtype=np.float64)
    least = LEAST_BACKGROUND * max(background[seen].mean(), 1e-6)
    background = np.where(seen, np.maximum(background, least), 0.0)
    kernel = WcsNDMap(_geometry(psf.shape), (psf / psf.sum())[None])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = MapDataset(
            counts=WcsNDMap(_geometry(counts.shape), np.where(seen, counts, 0.0)[None]),
            background=WcsNDMap(_geometry(counts.shape), background[None]),
            exposure=WcsNDMap(
                _geometry(counts.shape, true=True), UNIT_EXPOSURE * exposure[None], unit="cm2 s"
            ),
        )
        model = SkyModel(
            spatial_model=PointSpatialModel(), spectral_model=PowerLawSpectralModel(index=2)
        )
        estimator = TSMapEstimator(
            model, kernel_width=f"{psf.shape[0] * BIN} deg", selection_optional=None, n_jobs=1
        )
        # The image of the PSF itself: gammapy's PSFMap would make it round.
        estimator.estimate_kernel = lambda dataset: kernel
        score = np.array(estimator.run(dataset).sqrt_ts.data[0], dtype=np.float64)
    return np.where(seen, score, np.nan)


def _geometry(shape, *, true=False):
    """A map of one energy bin around the origin, as gammapy has them."""
    from gammapy.maps import MapAxis, WcsGeom

    axis = MapAxis.from_energy_edges(
        [1.0, 10.0], unit="GeV", name="energy_true" if true else "energy"
    )
    return WcsGeom.create(npix=shape[::-1], binsz=BIN, proj="CAR", skydir=(0, 0), axes=[axis])


def smoothed_adaptively(counts, background, *, threshold, scales):
    """Expected counts by adaptive smoothing: each pixel by the least scale that has an S/N (gammapy's ASmooth).

    Parameters
    ----------
    counts, background : (ny, nx) array
        Counts, and the expected counts from which structure must stand out.
    threshold : float
        Li & Ma's S/N.
    scales : sequence of float
        Standard deviations of the Gaussians in pixels, ascending.

    Returns
    -------
    (ny, nx) float64
        Pixels in which no scale reaches the threshold have their mean.
    """
    import astropy.units as u
    from gammapy.datasets import MapDataset
    from gammapy.estimators import ASmoothMapEstimator
    from gammapy.maps import WcsNDMap

    geometry = _geometry(np.shape(counts))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = MapDataset(
            counts=WcsNDMap(geometry, np.asarray(counts, np.float64)[None]),
            background=WcsNDMap(geometry, np.asarray(background, np.float64)[None]),
        )
        estimator = ASmoothMapEstimator(
            scales=BIN * np.asarray(scales) * u.deg, method="lima", threshold=threshold
        )
        return np.array(estimator.run(dataset)["counts"].data[0], dtype=np.float64)


# ---- backgrounds -----------------------------------------------------------------------


def without_isotropic(sky):
    """The true background without what every pixel has per exposure, expected counts (K, ny, nx)."""
    return sky.background - without_diffuse(sky)


def without_diffuse(sky):
    """The largest multiple of the exposure that nowhere exceeds the true background, (K, ny, nx)."""
    parts = np.zeros_like(sky.background)
    for part, background, exposure in zip(parts, sky.background, sky.exposure, strict=True):
        seen = exposure > 0
        part[seen] = np.min(background[seen] / exposure[seen]) * exposure[seen]
    return parts


def flat_field(sky):
    """A background in proportion to the exposure that has all counts, expected counts (K, ny, nx)."""
    mean = sky.counts.sum(axis=(1, 2)) / np.maximum(sky.exposure.sum(axis=(1, 2)), 1e-9)
    return mean[:, None, None] * sky.exposure


# ---- on and off ------------------------------------------------------------------------


def li_ma(on, off, alpha):
    """Significance of counts in a region against those in another (Li & Ma 1983, ApJ 272, 317, equation 17).

    Parameters
    ----------
    on, off : array_like
        Counts.
    alpha : array_like
        Exposure of the on region over that of the off region.

    Returns
    -------
    float64 array
        Negative where the on region has too few.
    """
    on, off, alpha = (np.asarray(values, dtype=np.float64) for values in (on, off, alpha))
    with np.errstate(divide="ignore", invalid="ignore"):
        total = on + off
        terms = xlogy(on, (1 + alpha) / alpha * on / total) + xlogy(off, (1 + alpha) * off / total)
    return np.sign(on - alpha * off) * np.sqrt(2.0 * np.maximum(np.nan_to_num(terms), 0.0))


def ring_counts(sky):
    """Counts in a disc and in a ring around each pixel, and the background in the pixel by the ring.

    Parameters
    ----------
    sky : CountsSky

    Returns
    -------
    on, off, background, alpha : (ny, nx) float64
        Counts of the disc and of the ring, expected counts in a pixel, and the exposure of the disc over that of the
        ring; the radii are `ON_RADIUS` and `RING`, and the disc has at least 1 pixel of radius.
    """
    counts, exposure, _ = _one_band(sky)
    counts = np.where(exposure > 0, counts, 0.0)
    fwhm = field_fwhm(sky)
    disc = _annulus(0.0, max(1.0, ON_RADIUS * fwhm))
    inner, outer = RING[0] * fwhm, RING[1] * fwhm
    ring = _annulus(max(3.0, inner), max(6.0, outer))
    on, off = (np.rint(_convolved(counts, area)) for area in (disc, ring))
    seen_on, seen_off = (_convolved(exposure, area) for area in (disc, ring))
    with np.errstate(divide="ignore", invalid="ignore"):
        background = np.where(seen_off > 1e-6, exposure * off / seen_off, 0.0)
        alpha = np.where(seen_off > 1e-6, seen_on / seen_off, np.nan)
    return on, off, background, alpha


def li_ma_map(sky):
    """Li & Ma's significance of a disc against a ring around each pixel, without known background."""
    on, off, _, alpha = ring_counts(sky)
    score = li_ma(on, off, alpha)
    # Equal counts in neighbouring discs make plateaus: the centre of the light breaks the tie.
    counts, exposure, _ = _one_band(sky)
    smooth = ndimage.gaussian_filter(counts, field_fwhm(sky) / FWHM_PER_SIGMA)
    score = score + 1e-3 * smooth / max(smooth.max(), 1e-9)
    return np.where((exposure > 0) & np.isfinite(alpha), score, np.nan)


def _annulus(inner, outer):
    """Pixels whose centres have a distance from `inner` to `outer`, as 0 and 1."""
    reach = int(np.ceil(outer))
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(y, x)
    return ((distance >= inner) & (distance <= outer)).astype(np.float64)


def _convolved(image, kernel):
    return np.maximum(fftconvolve(image, kernel, mode="same"), 0.0)


# ---- wavelets and SEP ------------------------------------------------------------------


def anscombe(counts):
    """2 sqrt(n + 3/8), of unit variance for many counts (Anscombe 1948, Biometrika 35, 246)."""
    return 2.0 * np.sqrt(np.asarray(counts, dtype=np.float64) + 0.375)


def wavelet_map(sky):
    """The starlet scale closest to the PSF of the Anscombe-transformed map of a CountsSky, over its noise, (ny, nx).

    Scale j of the transform holds structures of about 2^j pixels. Pixels without exposure have the mean of their
    surroundings.
    """
    counts, exposure, _ = _one_band(sky)
    image, seen = anscombe(counts), (exposure > 0).astype(np.float64)
    weight = ndimage.gaussian_filter(seen, FILLING_SIGMA)
    mean = ndimage.gaussian_filter(image * seen, FILLING_SIGMA) / np.maximum(weight, 1e-6)
    image = np.where(seen > 0, image, np.where(weight > 1e-6, mean, image[seen > 0].mean()))
    scale = int(np.clip(np.rint(np.log2(field_fwhm(sky))), 0, WAVELET_SCALES - 1))
    plane = starlet(image, WAVELET_SCALES)[scale]
    return np.where(seen > 0, plane / _clipped_rms(plane[seen > 0]), np.nan)


def _clipped_rms(values):
    """Standard deviation without what exceeds three of it."""
    for _ in range(MOST_CLIPS):
        kept = np.abs(values - values.mean()) <= CLIPPED_AT * values.std()
        values = values[kept]
    return max(float(values.std()), 1e-9)


def detect_by_sep(sky, *, matched=False):
    """SEP with SExtractor's defaults on the counts, at every threshold.

    arXiv:2510.04718 runs SExtractor on gamma-ray maps as on any image. A run at one threshold finds a part of this list.
    At few counts most pixels are zero and SEP's noise is zero, too; the noise is then the standard deviation of the map.

    Parameters
    ----------
    sky : CountsSky
    matched : bool
        Filter with a Gaussian as wide as the PSF, not with SExtractor's 3 x 3 pixels.

    Returns
    -------
    structured array
        x, y, score.
    """
    counts, exposure, _ = _one_band(sky)
    image, bad = counts.astype(np.float32), exposure <= 0
    if bad.mean() > 0.9 or not image.any():
        return detect_peaks(np.full(image.shape, np.nan))
    background = sep.Background(image, mask=bad, bw=DEFAULT_MESH, bh=DEFAULT_MESH)
    residual = image - background.back()
    rms = float(background.globalrms)
    if not rms > 0.1 * residual[~bad].std():
        rms = float(residual[~bad].std())
    subtracted = Subtracted(residual, np.full_like(image, rms), rms)
    kernel = DEFAULT_CONV
    if matched:
        sigma = max(field_fwhm(sky) / FWHM_PER_SIGMA, 0.5)
        profile = np.exp(-0.5 * (np.arange(-np.ceil(3 * sigma), 3 * sigma + 1) / sigma) ** 2)
        kernel = np.outer(profile, profile).astype(np.float32)
    # SEP divides the filter by its sum, so that white noise is lower after it.
    lowest = min(1.0, 1.5 * np.sqrt((kernel**2).sum()) / kernel.sum())
    return scan_thresholds(
        lambda threshold: extract(
            subtracted, threshold, mask=bad, kernel=kernel, area=DEFAULT_AREA
        ),
        threshold_ladder(lowest)[::2],
    )


# ---- smoothing -------------------------------------------------------------------------


def smoothed_by_gaussian(counts, sigma, *, exposure=None):
    """Expected counts, (ny, nx) float64: a Gaussian mean of the counts over the exposure, which edges do not lower.

    Parameters
    ----------
    counts : (ny, nx) array
    sigma : float
        Standard deviation in pixels.
    exposure : (ny, nx) array, optional
        Relative exposure.
    """
    counts = np.asarray(counts, dtype=np.float64)
    exposure = np.ones_like(counts) if exposure is None else np.asarray(exposure, np.float64)
    smooth = [
        ndimage.gaussian_filter(plane, sigma, mode="constant", truncate=6.0)
        for plane in (np.where(exposure > 0, counts, 0.0), exposure)
    ]
    return exposure * smooth[0] / np.maximum(smooth[1], 1e-12)
