"""What is really in a frame: the sources that a detection list is judged by.

`Truth` is all that scoring knows of a frame.  It comes from a simulation, which knows its catalogue
(`truth_of_sky`), or from a deep stack of other exposures of the same field (`bgrem.evaluate.pair`).
"""

from dataclasses import dataclass, replace

import numpy as np

from bgrem.arrays.statistics import FWHM_PER_SIGMA
from bgrem.masks.areas import around, grown, inner, inside
from bgrem.simulate.scene import DEFECT_BIT, FULL_WELL_BIT, GAP_BIT

__all__ = [
    "COUNTED_SNR", "Truth", "known_defects", "matching_radius", "truth_of_catalogue",
    "truth_of_sky",
]  # fmt: skip


#: A source must be found from this matched-filter S/N on ...
COUNTED_SNR = 2.0
#: ... and down to this one a detection of it is no mistake either: it is not scored.
TOLERATED_SNR = 0.7


@dataclass(frozen=True)
class Truth:
    """The sources of one frame and the area in which they are judged.

    Attributes
    ----------
    x, y : (n,) float64
        Positions in pixels, 0-based, pixel centres at integers.
    snr : (n,) float64
        S/N that a matched filter reaches on the source in this frame.
    counted : (n,) bool
        Sources that must be found.  The others are there too: a detection on them is not scored.
    usable : (ny, nx) bool
        Pixels in which detections and sources count, for every method alike.
    blank : (ny, nx) bool
        Pixels in which a detection that matches nothing is false.  Usable pixels outside `blank`
        hold light that is too faint to be listed: a detection there is not scored.
    radius : float
        Largest distance, in pixels, between a detection and its source.
    """

    x: np.ndarray
    y: np.ndarray
    snr: np.ndarray
    counted: np.ndarray
    usable: np.ndarray
    blank: np.ndarray
    radius: float

    @property
    def area(self):
        """Usable area in megapixels."""
        return np.count_nonzero(self.usable) / 1e6


def matching_radius(fwhm):
    """The largest distance at which a detection is taken for a source.

    Parameters
    ----------
    fwhm : float
        Of the PSF in pixels.

    Returns
    -------
    float
        The larger of 1.5 pixels and half the FWHM.
    """
    return max(1.5, 0.5 * fwhm)


def truth_of_catalogue(x, y, snr, *, usable, fwhm):
    """Truth of a frame whose catalogue is known.

    Sources of S/N below `TOLERATED_SNR` are dropped, those below `COUNTED_SNR` or in unusable pixels
    do not count.  An unmatched detection within one FWHM of a source is not scored: it is real light
    in the wrong place, the summit of a blend, and not an invention.

    Parameters
    ----------
    x, y, snr : (n,) array_like
        The catalogue; `snr` is the matched-filter S/N.
    usable : (ny, nx) bool
        Pixels that count.
    fwhm : float
        Full width at half maximum of the PSF in pixels.

    Returns
    -------
    Truth
    """
    x, y, snr = (np.asarray(column, dtype=np.float64) for column in (x, y, snr))
    listed = snr >= TOLERATED_SNR
    x, y, snr = x[listed], y[listed], snr[listed]
    counted = (snr >= COUNTED_SNR) & inside(usable, x, y)
    blank = usable & ~around(x, y, usable.shape, max(fwhm, matching_radius(fwhm)))
    return Truth(x, y, snr, counted, usable, blank, matching_radius(fwhm))


def truth_of_sky(sky, *, border=0):
    """Truth of a simulated `bgrem.simulate.Sky`.

    Not usable are what `known_defects` holds, saturated stars as far as two FWHM, and the border.  On
    galaxies much wider than the PSF a detection beside the centre is not scored, nor is one on a clump
    of a nebula that stands out as sources do: whether their structure is one source or many, or none,
    is no question of noise.

    Parameters
    ----------
    sky : Sky
        As `bgrem.simulate.draw` gives it.
    border : int
        Width in pixels of a frame along the edges that is left out.

    Returns
    -------
    Truth
    """
    fwhm, table = sky.scene.fwhm, sky.truth
    usable = inner(sky.mask.shape, border)
    usable &= ~(grown(known_defects(sky), 1.5) | grown((sky.mask & FULL_WELL_BIT) != 0, 2.0 * fwhm))
    truth = truth_of_catalogue(table["x"], table["y"], table["snr"], usable=usable, fwhm=fwhm)
    blank = truth.blank
    wide = table[(table["half_light_radius"] > 2.0 * fwhm) & (table["snr"] >= COUNTED_SNR)]
    for galaxy in wide:
        _cut_disc(blank, galaxy["x"], galaxy["y"], 1.5 * galaxy["half_light_radius"])
    if sky.scene.nebula:
        blank &= _prominence(sky) < COUNTED_SNR
    return replace(truth, blank=blank)


def _prominence(sky):
    """S/N of the noiseless sources above their surroundings of three FWHM, in a Gaussian of one."""
    from scipy.ndimage import gaussian_filter

    sigma = sky.scene.fwhm / FWHM_PER_SIGMA
    light = sky.sources / sky.rms
    above = gaussian_filter(light, sigma) - gaussian_filter(light, 3.0 * sigma)
    # A Gaussian of unit sum leaves 1 / sqrt(4 pi sigma^2) of white noise.
    return above * np.sqrt(4.0 * np.pi) * sigma


def known_defects(sky):
    """Pixels of a simulated frame that every observatory's mask holds: gaps, bad columns, bleeding.

    Single hot pixels and cosmic rays are not among them: to find these is part of the task.

    Parameters
    ----------
    sky : bgrem.simulate.Sky

    Returns
    -------
    (ny, nx) bool
    """
    from scipy.ndimage import binary_opening

    long_column = np.ones((33, 1), dtype=bool)
    artefact = (sky.mask & DEFECT_BIT) != 0
    return ((sky.mask & GAP_BIT) != 0) | binary_opening(artefact, long_column)


def _cut_disc(area, x, y, radius):
    """Clear a disc of a bool image, in place."""
    ny, nx = area.shape
    rows = slice(max(int(y - radius), 0), min(int(y + radius) + 2, ny))
    columns = slice(max(int(x - radius), 0), min(int(x + radius) + 2, nx))
    row, column = np.ogrid[rows, columns]
    area[rows, columns] &= (row - y) ** 2 + (column - x) ** 2 > radius**2
