"""Stars that the exposure drew out into trails, all along one direction."""

from dataclasses import dataclass

import numpy as np

from bgrem.detection.widths import moments

__all__ = ["StarTrails", "star_trails"]

FEWEST_TRAILS = 8
ALIGNED = 0.5  # mean of the ellipticities as vectors: round stars, and galaxies at random angles, have about 0
THINNEST = 0.25  # px^2: median variance across the direction; columns of hot pixels have less
LEAST_LIGHT = 0.1  # of the brightest pixel, that counts
APART = 4.0  # px across the direction: peaks nearer to each other belong to one trail


@dataclass(frozen=True)
class StarTrails:
    """The trails of a frame.

    Attributes
    ----------
    angle : float
        Their direction in degrees from the x axis, 0 to 180.
    count : int
        How many were seen.
    """

    angle: float
    count: int


def star_trails(places, cutouts):
    """The trails that the stars of a frame are, None where they are not.

    The ellipticity of an object with the second moments Qxx, Qyy and Qxy is the vector (Qxx - Qyy, 2 Qxy) / (Qxx +
    Qyy) (Bonnet & Mellier 1995, A&A 303, 331). Its mean over stars that are trails along one direction is long.

    Parameters
    ----------
    places : ndarray, (n, 2) int
        Row and column of the brightest pixel of bright objects.
    cutouts : ndarray, (n, k, k) float64
        Images around them on zero background, k odd.

    Returns
    -------
    StarTrails or None
    """
    if len(places) < FEWEST_TRAILS:
        return None
    half = cutouts.shape[-1] // 2
    radius = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    # The noise would count most where it is far out.
    seen = cutouts > LEAST_LIGHT * cutouts[:, half, half][:, None, None]
    _, (yy, xx, xy) = moments(np.where((radius <= half) & seen, cutouts, 0.0))
    ellipticity = (xx - yy + 2j * xy) / np.maximum(xx + yy, 1e-9)
    angle = 0.5 * np.angle(ellipticity.mean())
    across = places @ np.array([np.cos(angle), -np.sin(angle)])
    apart = np.unique(np.round(across / APART)).size
    thickness = xx * np.sin(angle) ** 2 + yy * np.cos(angle) ** 2 - xy * np.sin(2 * angle)
    if np.abs(ellipticity.mean()) < ALIGNED or apart < FEWEST_TRAILS:
        return None
    if np.median(thickness) < THINNEST:
        return None
    return StarTrails(float(np.rad2deg(angle) % 180), apart)
