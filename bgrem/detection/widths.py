"""Widths of star-like peaks, however coarsely they are sampled, and the width that stars share."""

from functools import cache
from math import erf

import numpy as np

from bgrem.arrays.statistics import FWHM_PER_SIGMA, half_sample_mode

__all__ = [
    "APERTURE", "SAMPLED_STARS", "equivalent_fwhm", "equivalent_widths", "moments", "shared_width", "star_widths",
    "stellar_width",
]  # fmt: skip

APERTURE = 1.25  # FWHM: radius in which a star's width is measured
# FWHM of the Gaussian with a noise-equivalent area of one pixel.
FWHM_PER_ROOT_AREA = np.sqrt(4 * np.log(2) / (2 * np.pi))
MOST_ELONGATED = 0.35
# Distance of a star's centre from its brightest pixel: a part of its width, or anywhere in the pixel.
FARTHEST_CENTRE, CORNER = 0.3, 0.75
FEWEST_STARS, FEWEST_ALIKE = 3, 5
# A pixel alone has an equivalent width of 0.66, two that share their light 0.94, and a Gaussian of 1 pixel
# FWHM, integrated over pixels, 1.22. What is sharper than SHARPEST is a defect or a particle, as a rule; but
# objects above SHARPEST_ALIKE whose densest half spans less than ALIKE e-folds are stars: particles
# have all widths. Reprojected frames sample coarsely what an atmosphere blurred, without a pixel's blur: many alike
# objects may be as sharp as SHARPEST_SAMPLED.
SHARPEST, SHARPEST_ALIKE, ALIKE = 1.4, 1.15, 0.12
SHARPEST_SAMPLED, SAMPLED_STARS = 0.95, 20
# Of the Gaussians in the table: FWHM in pixels, and the distance of the centre from that of a pixel.
TABLE_WIDTHS = np.concatenate([[1e-3], np.geomspace(0.3, 14.0, 50)])
TABLE_OFFSETS = np.linspace(0.0, 0.5, 11)
TABLE_REACH = 20  # px on each side of the middle pixel: more than three deviations of the widest


def equivalent_widths(cutouts):
    """FWHM of the Gaussian with each star's noise-equivalent area.

    A star's noise-equivalent area is ``(sum I)**2 / sum I**2`` (King 1983, PASP 95, 163, eq. 3)
    and a Gaussian's ``4 pi sigma**2``; it is well defined however coarse the sampling.
    Measured in an aperture of `APERTURE` FWHM, found by iteration.

    Parameters
    ----------
    cutouts : ndarray, (n, k, k) float64
        Images of stars on zero background, their brightest pixel in the middle.

    Returns
    -------
    width : ndarray, (n,) float64
        In pixels.
    round_enough : ndarray, (n,) bool
        False for streaks, blends and stars whose neighbour is brighter.
    """
    width, _, round_enough = _measured(cutouts)
    return width, round_enough


def star_widths(cutouts):
    """Equivalent widths as they would be in the mean over the places of a star's centre in its pixel.

    A star of 1 pixel FWHM appears 1.2 pixels wide in the middle of a pixel, and 1.4 at its corner. With
    the centre measured, sharp stars of all places are alike to a part in a hundred, and particles are not.

    Parameters
    ----------
    cutouts : ndarray, (n, k, k) float64
        As of `equivalent_widths`.

    Returns
    -------
    width : ndarray, (n,) float64
        In pixels.
    round_enough : ndarray, (n,) bool
    """
    width, centre, round_enough = _measured(cutouts)
    areas, means = _table()
    place = np.clip(np.abs(centre), 0, 0.5) * (2 * (TABLE_OFFSETS.size - 1))
    left = np.minimum(place.astype(int), TABLE_OFFSETS.size - 2)
    part = place - left
    # Of a Gaussian the area is the product of one along each axis.
    curves = (areas[:, left] * (1 - part) + areas[:, left + 1] * part).sum(axis=1).T
    area = 2 * np.log(np.maximum(width, 1e-9) / FWHM_PER_ROOT_AREA)
    free = [np.interp(one, curve, means) for one, curve in zip(area, curves, strict=True)]
    return np.array(free).reshape(width.shape), round_enough


@cache
def _table():
    """Logarithms of the area of Gaussians along one axis, (widths, offsets), and widths in the mean."""
    edges = np.arange(-TABLE_REACH, TABLE_REACH + 2) - 0.5
    areas = np.empty((TABLE_WIDTHS.size, TABLE_OFFSETS.size))
    for j, width in enumerate(TABLE_WIDTHS):
        for i, offset in enumerate(TABLE_OFFSETS):
            scaled = (edges - offset) * FWHM_PER_SIGMA / (np.sqrt(2) * width)
            light = 0.5 * np.diff([erf(edge) for edge in scaled])
            areas[j, i] = -np.log((light**2).sum())
    return areas, FWHM_PER_ROOT_AREA * np.exp(areas.mean(axis=1))


def _measured(cutouts):
    """Equivalent widths, centres (2, n) relative to the middle pixel, and what is round."""
    half = cutouts.shape[-1] // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    radius = np.full(len(cutouts), 2.5)
    r2 = (x**2 + y**2)[None]
    for _ in range(4):
        inside = r2 <= (np.maximum(radius, 1.5) ** 2)[:, None, None]
        light = np.where(inside, cutouts, 0.0)
        area = light.sum((1, 2)) ** 2 / np.maximum((light**2).sum((1, 2)), 1e-30)
        width = FWHM_PER_ROOT_AREA * np.sqrt(area)
        radius = np.clip(APERTURE * width, 1.5, half)
    (my, mx), (yy, xx, xy) = moments(np.clip(light, 0.0, None))
    elongation = np.hypot(xx - yy, 2 * xy) / np.maximum(xx + yy, 1e-30)
    middle = cutouts[:, half, half]
    alone = np.where(inside, cutouts, -np.inf).max((1, 2)) <= middle
    central = np.hypot(mx, my) < np.maximum(FARTHEST_CENTRE * width, CORNER)
    return width, np.stack([my, mx]), alone & (elongation < MOST_ELONGATED) & central


def moments(light):
    """Centres and central second moments of images.

    Parameters
    ----------
    light : ndarray, (n, k, k) float64
        Not negative; k odd.

    Returns
    -------
    centre : ndarray, (2, n) float64
        Along y and x from the middle pixel.
    second : ndarray, (3, n) float64
        Qyy, Qxx and Qxy in square pixels.
    """
    half = light.shape[-1] // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    total = np.maximum(light.sum((1, 2)), 1e-30)
    my, mx = ((light * place).sum((1, 2)) / total for place in (y, x))
    yy, xx, xy = ((light * place).sum((1, 2)) / total for place in (y**2, x**2, x * y))
    return np.stack([my, mx]), np.stack([yy - my**2, xx - mx**2, xy - mx * my])


def stellar_width(widths):
    """The width at which most objects crowd: stars share one, galaxies and defects do not.

    The half-sample mode of the logarithms, without what is too sharp for stars.

    Parameters
    ----------
    widths : ndarray, (n,) float64
        Of round objects, in pixels.

    Returns
    -------
    float
        In pixels; nan with fewer than `FEWEST_STARS` objects.
    """
    densest, narrow = _densest_half(np.sort(np.log(widths)), SAMPLED_STARS // 2)
    if widths.size >= SAMPLED_STARS and narrow < ALIKE and densest[0] > np.log(SHARPEST_SAMPLED):
        return _crowded_width(widths, SHARPEST_SAMPLED)
    shared = shared_width(widths)
    return shared if np.isfinite(shared) else _crowded_width(widths, SHARPEST)


def _crowded_width(widths, sharpest):
    stars = widths[widths > sharpest]
    return float(np.exp(half_sample_mode(np.log(stars)))) if stars.size >= FEWEST_STARS else np.nan


def shared_width(widths, *, sharpest=SHARPEST_ALIKE, alike=ALIKE):
    """The width at which most objects crowd, nan where they are not alike.

    Parameters
    ----------
    widths : ndarray, (n,) float64
        Of round objects, in pixels.
    sharpest : float
        Objects of this width and below are no stars.
    alike : float
        E-folds that the densest half of the objects, and 5 of them at least, may span; half as much where
        there are but 3 or 4.

    Returns
    -------
    float
        In pixels.
    """
    stars = np.sort(np.log(widths[widths > sharpest]))
    if FEWEST_STARS <= stars.size < FEWEST_ALIKE:
        span, alike = stars[-1] - stars[0], alike / 2
    else:
        _, span = _densest_half(stars, FEWEST_ALIKE)
    return float(np.exp(half_sample_mode(stars))) if span < alike else np.nan


def _densest_half(ordered, fewest):
    """The half of ordered values that is densest, at least `fewest` of them, and what it spans."""
    half = max(-(-ordered.size // 2), fewest)
    if ordered.size < half:
        return ordered, np.inf
    spans = ordered[half - 1 :] - ordered[: ordered.size - half + 1]
    start = int(np.argmin(spans))
    return ordered[start : start + half], float(spans[start])


def equivalent_fwhm(stamps):
    """Median equivalent width of noiseless star images: what a frame with this PSF would show.

    Parameters
    ----------
    stamps : ndarray, (n, k, k)
        As `equivalent_widths` takes them.

    Returns
    -------
    float
        In pixels: FWHM of the Gaussian with the stars' noise-equivalent area.
    """
    width, _ = equivalent_widths(np.asarray(stamps, np.float64))
    return float(np.median(width))
