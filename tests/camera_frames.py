"""Frames of one detector with known defects, for several tests."""

import numpy as np
from astropy.io import fits
from skies import gaussian_stars

SKY, RMS = 1000.0, 10.0
SIDE = 192


class Camera:
    """A detector with defects, and frames of it in which stars move."""

    def __init__(self, side=SIDE, *, seed=3, stars=40):
        self.rng = np.random.default_rng(seed)
        self.side = side
        self.added = np.zeros((side, side))  # sky rms
        self.x, self.y = self.rng.uniform(-20, side + 20, (2, stars))
        self.height = RMS * 10 ** self.rng.uniform(0.7, 2.5, stars)

    def light(self, shift=(0.0, 0.0)):
        """The stars, moved."""
        light = np.zeros((self.side, self.side))
        for x, y, height in zip(self.x + shift[0], self.y + shift[1], self.height, strict=True):
            light += gaussian_stars(light.shape, [x], [y], height, 1.3)
        return light

    def frame(self, dither=8.0, *, shift=None, scale=1.0):
        """Data of a frame."""
        shift = self.rng.normal(0, dither, 2) if shift is None else shift
        light = self.light(shift)
        noise = self.rng.normal(size=light.shape) * np.sqrt(RMS**2 + light)
        return (SKY + light + noise + scale * RMS * self.added).astype(np.float32)

    def write(self, folder, count=8, *, header=None, **options):
        """Write frames; their paths."""
        folder.mkdir(exist_ok=True)
        paths = [folder / f"f{i}.fits" for i in range(count)]
        for path in paths:
            hdu = fits.PrimaryHDU(self.frame(**options))
            hdu.header.update(header or {})
            hdu.writeto(path)
        return paths


WARM = {(20, 30): 3.5, (50, 141): 5.0, (90, 90): 6.5, (120, 61): 8.0, (170, 100): 10.0}
