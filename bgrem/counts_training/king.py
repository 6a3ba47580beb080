"""Point-spread functions of gamma-ray and X-ray telescopes: King profiles, with tails."""

from dataclasses import dataclass

import numpy as np

from bgrem.arrays.statistics import FWHM_PER_SIGMA

__all__ = ["PSF_SIDE", "KingProfile", "equivalent_fwhm", "psf_image"]

PSF_SIDE = 31  # px: of the image of a PSF
SUBPIXELS = 5  # along each axis, over which a pixel of an image is integrated


@dataclass(frozen=True, kw_only=True)
class KingProfile:
    """A King profile, or the sum of two.

    K(r) = (1 + r^2 / (2 g s^2))^-g, as the Fermi-LAT's PSF (Ackermann et al. 2013, ApJ 765, 54, eq. 36) and those
    of XMM-Newton (Read et al. 2011, A&A 534, A34) are described. A large g is a Gaussian.

    Attributes
    ----------
    fwhm : float
        Of the core, in pixels.
    index : float
        g, above 1.
    tail : float
        Part of the light in the second profile.
    tail_width, tail_index : float
        FWHM of the second profile over that of the core, and its g.
    ellipticity, angle : float
        1 - b / a, and the angle of the long axis from x in radians.
    """

    fwhm: float
    index: float
    tail: float = 0.0
    tail_width: float = 3.0
    tail_index: float = 2.0
    ellipticity: float = 0.0
    angle: float = 0.0

    def __call__(self, x, y):
        """Light per square pixel, with integral 1, at offsets in pixels."""
        along = x * np.cos(self.angle) + y * np.sin(self.angle)
        across = y * np.cos(self.angle) - x * np.sin(self.angle)
        ratio = 1 - self.ellipticity
        r2 = along * along * ratio + across * across / ratio
        core = _king(r2, self.fwhm, self.index)
        if not self.tail:
            return core
        second = _king(r2, self.fwhm * self.tail_width, self.tail_index)
        return (1 - self.tail) * core + self.tail * second

    def scaled(self, factor):
        """The profile with another width."""
        return KingProfile(**{**vars(self), "fwhm": self.fwhm * factor})


def _king(r2, fwhm, index):
    # Half of the peak is at r = FWHM / 2.
    width2 = 0.25 * fwhm * fwhm / (2 ** (1 / index) - 1)
    return (index - 1) / (np.pi * width2) * (1 + r2 / width2) ** -index


def psf_image(profile, side=PSF_SIDE):
    """A PSF integrated over pixels.

    Parameters
    ----------
    profile : KingProfile
    side : int
        Odd.

    Returns
    -------
    ndarray, (side, side) float32
        With sum 1: what lies outside is left out.
    """
    fine = (np.arange(side * SUBPIXELS) + 0.5) / SUBPIXELS - side / 2
    light = profile(fine[None, :], fine[:, None])
    image = light.reshape(side, SUBPIXELS, side, SUBPIXELS).sum((1, 3))
    return (image / image.sum()).astype(np.float32)


def equivalent_fwhm(image):
    """FWHM in pixels of the Gaussian that has the noise-equivalent area of a PSF.

    The area of an image P with sum 1 is 1 / sum(P^2), that of a Gaussian 4 pi sigma^2 (King 1983, PASP 95, 163).

    Parameters
    ----------
    image : ndarray, (..., side, side)

    Returns
    -------
    ndarray
    """
    area = 1 / (np.asarray(image, np.float64) ** 2).sum((-2, -1))
    return FWHM_PER_SIGMA * np.sqrt(area / (4 * np.pi))
