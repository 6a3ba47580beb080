"""A frame of stars and a disc of known places and fluxes, for the tests of the catalogue."""

import numpy as np
from skies import add_star, exponential_disc

FRAME_FWHM, GAIN, SKY_LEVEL = 3.2, 4.0, 400.0


def frame_of_stars(shape=(300, 320), count=40, *, seed=1, snr=(8.0, 400.0)):
    """Data in units of 4 electrons, and x, y and flux of the stars; a disc in a corner."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(count)))
    rms = np.sqrt(SKY_LEVEL / GAIN)
    cells = np.stack(np.unravel_index(np.arange(count), (side, side))).astype(float)
    y, x = (cells + rng.uniform(0.35, 0.65, cells.shape)) * (
        np.array(shape)[:, None] - 60
    ) / side + 30
    noise_pixels = 4 * np.pi * (FRAME_FWHM / 2.3548) ** 2
    flux = np.geomspace(*snr, count) * rms * np.sqrt(noise_pixels)
    rng.shuffle(flux)
    light = np.zeros(shape)
    for star in zip(x, y, flux, strict=True):
        add_star(light, *star, fwhm=FRAME_FWHM)
    disc = exponential_disc(shape, shape[1] - 22.0, shape[0] - 22.0, 3.5, 12 * rms)
    whole = (light + disc + SKY_LEVEL) * GAIN
    return rng.poisson(whole) / GAIN, (x, y, flux)
