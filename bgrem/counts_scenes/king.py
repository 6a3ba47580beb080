"""Point-spread functions of gamma-ray and X-ray telescopes, and the light of sources behind them."""

from dataclasses import dataclass

import numpy as np
from scipy import fft

__all__ = [
    "PSF_IMAGE_SIDE",
    "SOURCE_MARGIN",
    "KingProfile",
    "blurred_light",
    "off_axis_light",
    "point_light",
    "psf_image",
    "smoothed_map",
]  # fmt: skip

PSF_IMAGE_SIDE = 31  # px: of the image of a PSF
SOURCE_MARGIN = 32  # px: sources around a map shine into it
WIDEST_AT = 1.2  # of the distance of a corner: sources beyond have the width of this distance
OFF_AXIS_WIDTHS = 4  # of the PSF, between which the others are interpolated
SUBPIXELS = 5  # along each axis, over which a pixel of an image is integrated


@dataclass(frozen=True, kw_only=True)
class KingProfile:
    """A King profile, or the sum of two.

    K(r) = (1 - 1/g) / (2 pi s^2) (1 + r^2 / (2 g s^2))^-g, with integral 1, describes the PSF of the Fermi-LAT
    (Ackermann et al. 2013, ApJ 765, 54), as the sum of two, and those of XMM-Newton (Read et al. 2011, A&A 534, A34).
    A large g is a Gaussian.

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


def psf_image(profile, side=PSF_IMAGE_SIDE):
    """A PSF integrated over pixels.

    Parameters
    ----------
    profile : KingProfile
    side : int
        Odd.

    Returns
    -------
    ndarray, (side, side) float32
        With sum 1: what lies outside is left out, which cuts a FWHM of more than half of the side.
    """
    fine = (np.arange(side * SUBPIXELS) + 0.5) / SUBPIXELS - side / 2
    light = profile(fine[None, :], fine[:, None])
    image = light.reshape(side, SUBPIXELS, side, SUBPIXELS).sum((1, 3))
    return (image / image.sum()).astype(np.float32)


def point_light(shape, x, y, fluxes, profile):
    """Expected counts of point sources of one PSF.

    The sources are put on pixels of 1/2 to 1/4 of the size, between the four nearest, convolved with the PSF, and
    summed over pixels, which widens them by 1 % at most on average. Light that leaves the map and its margin comes back
    on the other side: none is lost.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) of the map in pixels.
    x, y : ndarray, (n,)
        Places in pixels, at most `SOURCE_MARGIN` outside the map.
    fluxes : ndarray, (n,)
        Expected counts.
    profile : KingProfile

    Returns
    -------
    ndarray, (ny, nx) float32
    """
    fine = 4 if profile.fwhm < 1.8 else 3 if profile.fwhm < 3 else 2
    ny, nx = ((side + 2 * SOURCE_MARGIN) * fine for side in shape)
    grid = np.zeros((ny, nx), np.float32)
    u = (np.asarray(x) + SOURCE_MARGIN + 0.5) * fine - 0.5
    v = (np.asarray(y) + SOURCE_MARGIN + 0.5) * fine - 0.5
    i, j = np.floor(v).astype(int), np.floor(u).astype(int)
    fi, fj = v - i, u - j
    for di in (0, 1):
        for dj in (0, 1):
            part = fluxes * np.abs(1 - di - fi) * np.abs(1 - dj - fj)
            np.add.at(grid, ((i + di) % ny, (j + dj) % nx), part.astype(np.float32))
    oy = np.fft.fftfreq(ny, 1 / ny).astype(np.float32)[:, None] / fine
    ox = np.fft.fftfreq(nx, 1 / nx).astype(np.float32)[None] / fine
    kernel = profile(ox, oy).astype(np.float32)
    kernel /= kernel.sum()
    light = fft.irfft2(fft.rfft2(grid) * fft.rfft2(kernel), s=(ny, nx))
    light = np.maximum(light, 0).reshape(ny // fine, fine, nx // fine, fine).sum((1, 3))
    return light[SOURCE_MARGIN:-SOURCE_MARGIN, SOURCE_MARGIN:-SOURCE_MARGIN]


def blurred_light(images, psf):
    """Images convolved with those of a PSF; light leaves at the edges.

    Parameters
    ----------
    images : ndarray, (..., ny, nx) float32
    psf : ndarray, (..., k, k) float32

    Returns
    -------
    ndarray, (..., ny, nx) float32
    """
    if not images.any():
        return images
    half = psf.shape[-1] // 2
    shape = [side + 2 * half for side in images.shape[1:]]
    product = fft.rfft2(images, s=shape) * fft.rfft2(psf, s=shape)
    whole = fft.irfft2(product, s=shape)[:, half:, half:]
    return np.maximum(whole[:, : images.shape[1], : images.shape[2]], 0).astype(np.float32)


def off_axis_light(shape, x, y, fluxes, profile, growth):
    """Expected counts of point sources whose PSF widens with the distance from the centre of the map.

    The width is that of the centre times 1 + growth (r / R)^2, with R the distance of a corner, as the angle of
    Chandra's mirrors makes it. Each source is divided between the two nearest of `OFF_AXIS_WIDTHS` widths.

    Parameters
    ----------
    shape, x, y, fluxes, profile
        See `point_light`.
    growth : float

    Returns
    -------
    ndarray, (ny, nx) float32
    """
    if not growth:
        return point_light(shape, x, y, fluxes, profile)
    ny, nx = shape
    distance = np.hypot((y - ny / 2) / ny, (x - nx / 2) / nx) / np.hypot(0.5, 0.5)
    wider = 1 + growth * np.minimum(distance, WIDEST_AT) ** 2
    widths = np.linspace(1, 1 + WIDEST_AT**2 * growth, OFF_AXIS_WIDTHS)
    place = np.interp(wider, widths, np.arange(len(widths)))
    light = np.zeros(shape, np.float32)
    for number, width in enumerate(widths):
        share = np.maximum(0, 1 - np.abs(place - number))
        some = share > 0
        light += point_light(shape, x[some], y[some], (fluxes * share)[some], profile.scaled(width))
    return light


def smoothed_map(image, fwhm):
    """A map convolved with a Gaussian, continued by reflection at its edges.

    Parameters
    ----------
    image : ndarray, (ny, nx)
    fwhm : float
        In pixels.

    Returns
    -------
    ndarray, (ny, nx)
    """
    ky, kx = np.fft.fftfreq(2 * image.shape[0])[:, None], np.fft.rfftfreq(2 * image.shape[1])[None]
    whole = np.pad(image, [(0, side) for side in image.shape], mode="symmetric")
    factor = np.exp(-0.5 * (2 * np.pi * 0.4247 * fwhm) ** 2 * (ky * ky + kx * kx))
    return fft.irfft2(fft.rfft2(whole) * factor, s=whole.shape)[: image.shape[0], : image.shape[1]]
