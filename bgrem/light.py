"""Light of known sources, added to an image as a detector would have seen it."""

import numpy as np

#: Electrons below which photons are counted one by one.
FEW = 1e3


def light_of_stars(shape, x, y, flux, psf):
    """Noiseless image of stars.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) in pixels.
    x, y : (n,) array
        Positions in pixels, 0-based, pixel centres at integers.
    flux : (n,) array
        Flux of each star; the PSF times it is added.
    psf : (k, k) array
        k odd.

    Returns
    -------
    (ny, nx) float64
    """
    light = np.zeros(shape)
    for column, row, amount in zip(x, y, flux, strict=True):
        stamp, left, bottom = moved_psf(psf, column, row)
        add_stamp(light, amount * stamp, left, bottom)
    return light


def moved_psf(psf, x, y):
    """A PSF centred on a place between pixels, by a cubic spline.

    Returns
    -------
    stamp : (k, k) float64
    left, bottom : int
        The pixel of the image that the stamp's first one falls on.
    """
    from scipy.ndimage import shift

    half = psf.shape[0] // 2
    column, row = round(float(x)), round(float(y))
    stamp = shift(np.asarray(psf, np.float64), (y - row, x - column), order=3)
    return stamp, column - half, row - half


def add_stamp(image, stamp, left, bottom):
    """Add a stamp whose first pixel falls on (`left`, `bottom`), in place; what lies outside is lost."""
    ny, nx = image.shape
    bottom_cut, left_cut = max(-bottom, 0), max(-left, 0)
    top_cut, right_cut = max(ny - bottom, 0), max(nx - left, 0)
    seen = stamp[bottom_cut:top_cut, left_cut:right_cut]
    bottom, left = bottom + bottom_cut, left + left_cut
    image[bottom : bottom + seen.shape[0], left : left + seen.shape[1]] += seen


def add_light(data, light, *, rng, gain=None, step=0.0):
    """An image with more light in it.

    Parameters
    ----------
    data : (ny, nx) array
        As observed.
    light : (ny, nx) array
        Expected light, data units.
    rng : numpy.random.Generator
        Draws its photon noise.
    gain : float, optional
        Electrons per data unit; without it the light comes without photon noise of its own.
    step : float
        Step between possible values of the data; 0 for none.

    Returns
    -------
    (ny, nx) float32
    """
    seen = np.asarray(light, np.float64)
    if gain:
        seen = _counted(np.maximum(seen * gain, 0.0), rng) / gain
    if step:
        # What the rounding of the data took away is not known: a random part of a step stands for
        # it, so that light below half a step is not lost.
        below = rng.uniform(-0.5, 0.5, seen.shape)
        seen = np.rint(seen / step + below) * step
    return (np.asarray(data, np.float64) + seen).astype(np.float32)


def _counted(electrons, rng):
    """Poisson draws, the normal limit where there are many electrons."""
    few = electrons < FEW
    drawn = electrons + np.sqrt(electrons) * rng.standard_normal(electrons.shape)
    drawn[few] = rng.poisson(electrons[few])
    return drawn
