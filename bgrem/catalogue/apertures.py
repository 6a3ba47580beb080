"""Fluxes in circles and in ellipses of sources, with errors that hold in correlated noise."""

from dataclasses import dataclass

import numpy as np
import sep
from scipy.ndimage import distance_transform_edt

from bgrem.arrays.statistics import SIGMA_PER_MAD
from bgrem.detection.photometry import circles_inside
from bgrem.masks.areas import pixels_of

__all__ = ["NoiseFactors", "auto_photometry", "circle_fluxes", "measure_noise_factors"]

#: SExtractor's PHOT_AUTOPARAMS: factor of the Kron radius, and the reach of its measurement.
KRON_RADII, KRON_REACH = 2.5, 6.0
LARGEST_KRON = 8.0  # in units of a: the radius is no larger
FEWEST_EMPTY = 50  # from which a deviation is measured
MOST_EMPTY = 3000
LEVEL_RADIUS = 1.5  # FWHM: of the largest circles that give the level of empty places
LEAST_EMPTY, MOST_OF_LEVEL = (
    0.3,
    0.3,
)  # part of the frame, and rms: in crowds the gaps do not show the level
CLEAR_OF_SOURCES = 3.0  # FWHM: from an empty circle to the next source


@dataclass(frozen=True, eq=False)
class NoiseFactors:
    """The noise of sums in empty places of a frame: how correlation widens it, and its level.

    Attributes
    ----------
    radii : (n,) ndarray
        Of circles, in pixels.
    factors : (n,) ndarray
        Standard deviation of the sums in empty circles of the frame over that of independent pixels.
    level : float
        Median brightness of empty places: sources that are not seen, and the error of the background.
    """

    radii: np.ndarray
    factors: np.ndarray
    level: float

    def of_area(self, area):
        """The factor for a sum over an area in pixels."""
        radius = np.sqrt(np.maximum(area, 1e-6) / np.pi)
        return np.interp(radius, self.radii, self.factors)


def measure_noise_factors(image, rms, bad, x, y, fwhm):
    """Measure the scatter of sums in empty circles.

    It contains the correlation of the noise and what the error of the background differs by from place to place.

    Parameters
    ----------
    image : (ny, nx) array
        Sky-subtracted.
    rms : (ny, nx) array
    bad : (ny, nx) bool
    x, y : (n,) array
        Places of all sources, in pixels.
    fwhm : float
        In pixels.

    Returns
    -------
    NoiseFactors
        All 1 if the frame has too few empty places.
    """
    image = np.ascontiguousarray(np.where(bad, 0, image), np.float32)
    variance = np.square(rms, dtype=np.float32)
    radii, factors, level = [0.3], [1.0], 0.0
    spots = pixels_of(x, y, image.shape)
    from_source = distance_transform_edt(~spots) if spots.any() else np.full(image.shape, np.inf)
    from_bad = distance_transform_edt(~bad) if bad.any() else np.full(image.shape, np.inf)
    empty = np.mean((from_source > (CLEAR_OF_SOURCES + 1) * fwhm) & ~bad)
    for radius in fwhm * np.array([0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0]):
        column, row = circles_inside(image.shape, radius)
        place = np.rint(row).astype(int), np.rint(column).astype(int)
        clear = (from_source[place] > CLEAR_OF_SOURCES * fwhm + 2 * radius) & (
            from_bad[place] > radius
        )
        column, row = column[clear], row[clear]
        if len(column) < FEWEST_EMPTY:
            break
        chosen = slice(None, None, max(1, len(column) // MOST_EMPTY))
        sums, _, _ = sep.sum_circle(image, column[chosen], row[chosen], radius, subpix=0)
        expected, _, _ = sep.sum_circle(variance, column[chosen], row[chosen], radius, subpix=0)
        pull = sums / np.sqrt(expected)
        radii.append(radius)
        factors.append(SIGMA_PER_MAD * np.median(np.abs(pull - np.median(pull))))
        if radius <= LEVEL_RADIUS * fwhm and empty > LEAST_EMPTY:
            level = np.clip(np.median(sums) / (np.pi * radius**2), -MOST_OF_LEVEL, MOST_OF_LEVEL)
    return NoiseFactors(np.array(radii), np.array(factors), float(level))


def circle_fluxes(image, variance, bad, x, y, radius, factors: NoiseFactors):
    """Sums in circles, and their errors without the photon noise of the sources.

    Bad pixels do not count; the sum is over the good part of the circle, scaled to all of it.

    Parameters
    ----------
    image, variance : (ny, nx) float32 array
        Sky-subtracted, and the variance of the sky's noise.
    bad : (ny, nx) bool
    x, y : (n,) array
    radius : float or (n,) array
        In pixels.
    factors : NoiseFactors

    Returns
    -------
    flux, error : (n,) float64
    """
    flux, _, _ = sep.sum_circle(image, x, y, radius, mask=bad, subpix=5)
    square, _, _ = sep.sum_circle(variance, x, y, radius, mask=bad, subpix=5)
    area = np.pi * np.square(radius) * np.ones(len(x))
    return flux, np.sqrt(np.maximum(square, 0)) * factors.of_area(area)


def auto_photometry(image, variance, bad, x, y, shapes, segments, factors: NoiseFactors):
    """Sums in ellipses of 2.5 Kron radii (Kron 1980, ApJS 43, 305), as SExtractor's FLUX_AUTO.

    Parameters
    ----------
    image, variance : (ny, nx) float32 array
    bad : (ny, nx) bool
    x, y : (n,) array
    shapes : bgrem.catalogue.shapes.Shapes
    segments : bgrem.catalogue.shapes.Segments
        Pixels of other segments do not count.
    factors : NoiseFactors

    Returns
    -------
    flux, error, radius : (n,) float64
        The radius is in units of the deviations a and b.
    """
    ellipse = (shapes.a, shapes.b, shapes.theta)
    parts = {"mask": bad, "seg_id": shapes.label, "segmap": segments.labels}
    kron, _ = sep.kron_radius(image, x, y, *ellipse, KRON_REACH, **parts)
    radius = KRON_RADII * np.clip(np.nan_to_num(kron, nan=1.0), 1.0, LARGEST_KRON / KRON_RADII)
    flux, _, _ = sep.sum_ellipse(image, x, y, *ellipse, radius, subpix=5, **parts)
    square, _, _ = sep.sum_ellipse(variance, x, y, *ellipse, radius, subpix=5, mask=bad)
    area = np.pi * shapes.a * shapes.b * radius**2
    return flux, np.sqrt(np.maximum(square, 0)) * factors.of_area(area), radius
