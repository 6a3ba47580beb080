"""Light of known sources, added to an image as a detector would have seen it."""

import numpy as np

from bgrem.arrays.stamps import add_stamp, moved_psf

__all__ = ["add_light", "light_of_stars"]

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
