"""The energy bands of one field, separated together."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from bgrem.counts.counts_input import (
    ASSUMED_FWHM,
    CountsInput,
    area_fwhm,
    counts_input,
    fitted_psf,
    gaussian_image,
    prior_background,
)
from bgrem.counts.counts_model import CountsModel
from bgrem.counts.rebinning import rebinned_psf, spread_evenly, spread_smoothly, summed
from bgrem.inference.denoiser import noise_rates

__all__ = ["BandParts", "separate_bands"]

WIDEST_FWHM = 6.0  # px: maps of a wider PSF are summed over pixels
MOST_SUMMED = 8  # px a side
LOWEST_NOISE_RATE = 0.05  # of the training
PHOTON_SEED = 20230518  # of the photons that are added between diffusion steps


@dataclass(frozen=True)
class BandParts:
    """The parts of k energy bands.

    Attributes
    ----------
    sources, background : ndarray, (k, ny, nx) float32
        Expected counts.
    variance : ndarray, (k, ny, nx) float32
        Of the sources.
    significance : ndarray, (ny, nx) float32
        Of all bands.
    """

    sources: np.ndarray
    background: np.ndarray
    variance: np.ndarray
    significance: np.ndarray


def separate_bands(
    counts, *, model, seen=None, exposure=None, template=None, psf=None, steps=1, progress=None
):
    """Separate the energy bands of one field.

    Parameters
    ----------
    counts : ndarray, (k, ny, nx)
        Whole numbers, not negative.
    model : CountsModel
    seen : ndarray of bool, (k, ny, nx), optional
        False where a pixel is not to be used.
    exposure, template : ndarray, (k, ny, nx), optional
        Relative exposure, 0 where nothing was seen, and the shape of the background per unit exposure.
    psf : ndarray, (k, n, n), optional
        Images of the PSF, n odd, with sum 1.
    steps : int
        Diffusion steps.
    progress : callable, optional
        Called with the fraction that is done.

    Returns
    -------
    BandParts
        The sum of sources and background over the seen pixels of a band is that of its counts: of all common
        factors of the two, this one has the greatest likelihood.
    """
    counts = np.asarray(counts)
    seen = np.ones(counts.shape, bool) if seen is None else np.asarray(seen, bool)
    if exposure is not None:
        seen = seen & (exposure > 0)
    shape = np.ones(counts.shape) if exposure is None else np.asarray(exposure, np.float64)
    if template is not None:
        shape = shape * template
    given = (psf is not None, exposure is not None, template is not None)
    psf = _images(psf, len(counts))
    factor = _factor(psf)
    shape = np.where(seen, shape, 0)
    # Their units are free: very small or large numbers would be lost below.
    shape = shape / np.maximum(shape.max((1, 2), keepdims=True), np.finfo(float).tiny)
    planes = [np.where(seen, counts, 0), shape, seen.astype(np.float32)]
    if factor > 1:
        planes = [summed(plane, factor) for plane in planes]
        # A summed pixel is seen where most of it is.
        planes[2] = (planes[2] > 0.5 * factor * factor).astype(np.float32)
        planes[0] = planes[0] * planes[2]
    kernels = np.stack([fitted_psf(rebinned_psf(image, factor)) for image in psf])
    found = _diffused(model, *planes, kernels, given, steps, progress)
    if factor > 1:
        prior = prior_background(np.where(seen, counts, 0), shape, seen)
        found = _spread(found, planes[2], prior, factor)
    return _normalised(found, counts, seen)


def _images(psf, bands):
    if psf is None:
        return [gaussian_image(ASSUMED_FWHM)] * bands
    return list(psf) if len(psf) == bands else [psf[0]] * bands


def _factor(psf):
    """Pixels a side that are summed, so that the narrowest PSF is one of the training."""
    narrowest, factor = min(float(area_fwhm(image)) for image in psf), 1
    while narrowest / factor > WIDEST_FWHM and factor < MOST_SUMMED:
        factor *= 2
    return factor


def _diffused(model, counts, shape, seen, kernels, given, steps, progress):
    """The reverse of a diffusion by binomial thinning.

    A map of the noise rate r has 1 / r times the exposure of the observed one, which is a copy of it in which each
    photon was kept with the probability r (Chen & Zhou 2023, arXiv:2305.18375). A step adds the photons that its
    estimate expects; the last estimate is the result, at the exposure of the observed map. Variance and significance
    are those of the observed map.
    """
    rng = np.random.default_rng(PHOTON_SEED)
    photons, first = counts, None
    rates = [max(rate, LOWEST_NOISE_RATE) for rate in noise_rates(steps)[:-1]] + [0.0]
    for number, (rate, lower) in enumerate(pairwise(rates)):
        given_now = counts_input(photons, seen, shape, kernels, given=given, rate=rate)
        found = _tiled(
            model, given_now, lambda part, n=number: progress and progress((n + part) / steps)
        )
        found[:, :2] *= np.float32(rate)
        first = found if first is None else first
        if lower and lower < rate:
            expected = found[:, :2].sum(1, dtype=np.float64) * seen
            expected *= _scale(expected, counts)
            photons = photons + rng.poisson((1 / lower - 1 / rate) * expected)
    return np.concatenate([found[:, :2], first[:, 2:]], 1)


def _tiled(model: CountsModel, given: CountsInput, progress) -> np.ndarray:
    """The channels of a map, (k, 4, ny, nx) float32; tiles pass smoothly into each other.

    Unlike `bgrem.arrays.tiling.map_tiles` it takes planes of several bands, and nothing is reflected beyond the map:
    reflected photons would be counted twice.
    """
    ny, nx = given.planes.shape[2:]
    total = np.zeros((len(given.planes), 4, ny, nx), np.float32)
    weights = np.zeros((ny, nx), np.float32)
    tiles = [
        (rows, columns, down[:, None] * across[None])
        for rows, down in _strips(ny, model)
        for columns, across in _strips(nx, model)
    ]
    for number, (rows, columns, weight) in enumerate(tiles, start=1):
        part = replace(given, planes=_padded(given.planes[:, :, rows, columns], model.multiple))
        found = model(part.planes, part.kernel, part.frame)
        total[:, :, rows, columns] += weight * found[:, :, : weight.shape[0], : weight.shape[1]]
        weights[rows, columns] += weight
        progress(number / len(tiles))
    total /= weights
    return total


def _strips(length: int, model: CountsModel) -> Iterator[tuple[slice, np.ndarray]]:
    """Parts of an axis that overlap, with their weights."""
    if length <= model.tile:
        yield slice(0, length), np.ones(length, np.float32)
        return
    number = -(-(length - model.overlap) // (model.tile - model.overlap))
    starts = np.linspace(0, length - model.tile, number)
    starts = np.ceil(starts / model.multiple).astype(int) * model.multiple
    for start in starts:
        stop = min(start + model.tile, length)
        place = np.arange(start, stop)
        # Nothing counts within a quarter of the overlap from the end of a tile, but of the map.
        edge, ramp = model.overlap / 4, model.overlap / 2
        rise = np.clip((place - start - edge + 0.5) / ramp, 0, 1) if start else np.ones(len(place))
        fall = np.clip((stop - edge - place - 0.5) / ramp, 0, 1) if stop < length else 1.0
        yield slice(start, stop), (np.minimum(rise, fall) + 1e-6).astype(np.float32)


def _padded(planes: np.ndarray, multiple: int) -> np.ndarray:
    """Planes with sides that are multiples; beyond the map nothing is seen."""
    more = [-side % multiple for side in planes.shape[2:]]
    return np.pad(planes, [(0, 0), (0, 0), (0, more[0]), (0, more[1])])


def _spread(found, coarse_seen, shape, factor):
    """The channels of a map of summed pixels, on its pixels."""
    ny, nx = shape.shape[1:]
    sources = spread_smoothly(found[:, 0], factor, (ny, nx))
    deviation = spread_smoothly(np.sqrt(found[:, 2]), factor, (ny, nx))
    # The background has the fine shape that is known, and the level of the summed pixels.
    coarse = summed(shape, factor)
    level = np.where(coarse_seen > 0, found[:, 1] / np.maximum(coarse, 1e-20), 0)
    background = shape * spread_evenly(level, factor, (ny, nx))
    significance = spread_evenly(found[:, 3], factor, (ny, nx))
    return np.stack([sources, background, deviation**2, significance], 1).astype(np.float32)


def _normalised(found, counts, seen) -> BandParts:
    sources, background, variance = found[:, 0] * seen, found[:, 1] * seen, found[:, 2] * seen
    factor = _scale(sources + background, np.where(seen, counts, 0)).astype(np.float32)
    return BandParts(sources * factor, background * factor, variance * factor**2, found[0, 3])


def _scale(expected, counts):
    """The factor of greatest likelihood of the expected counts of each band, (k, 1, 1)."""
    total, number = (
        part.sum((1, 2), keepdims=True, dtype=np.float64) for part in (expected, counts)
    )
    return np.where(total > 0, number / np.maximum(total, 1e-30), 1.0)
