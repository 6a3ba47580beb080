"""What is really in a frame: the sources that a detection list is judged by.

`Truth` is all that scoring knows of a frame.  It comes from a simulation, which knows its catalogue
(`truth_of_sky`), or from a deep stack of other exposures of the same field (`bgrem.pair`).
"""

from dataclasses import dataclass

import numpy as np

#: A source must be found from this matched-filter S/N on (DESIGN: the limit of what counts) ...
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
    """Matching radius in pixels: the larger of 1.5 pixels and half the FWHM."""
    return max(1.5, 0.5 * fwhm)


def truth_of_catalogue(x, y, snr, *, usable, fwhm):
    """Truth of a frame whose catalogue is known.

    Sources of S/N below `TOLERATED_SNR` are dropped, those below `COUNTED_SNR` or in unusable pixels
    do not count.

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
    return Truth(x, y, snr, counted, usable, usable, matching_radius(fwhm))


def truth_of_sky(sky, *, bad_bits=~0, border=0):
    """Truth of a simulated `Sky` (see `bgrem.simulate.draw`).

    Parameters
    ----------
    sky : Sky
        With `truth` (fields x, y, snr), `mask` (bits) and `fwhm`.
    bad_bits : int
        Bits of `sky.mask` that take a pixel out of the scoring.
    border : int
        Width in pixels of a frame along the edges that is taken out as well.

    Returns
    -------
    Truth
    """
    usable = inner(sky.mask.shape, border) & ((sky.mask & bad_bits) == 0)
    table = sky.truth
    return truth_of_catalogue(table["x"], table["y"], table["snr"], usable=usable, fwhm=sky.fwhm)


def inner(shape, border):
    """(ny, nx) bool: True further than `border` pixels from every edge."""
    inside_border = np.zeros(shape, dtype=bool)
    inside_border[border : shape[0] - border, border : shape[1] - border] = True
    return inside_border


def inside(area, x, y):
    """(n,) bool: whether the pixel that holds each point is in the bool image `area`."""
    column, row = np.rint(x).astype(np.int64), np.rint(y).astype(np.int64)
    within = (row >= 0) & (row < area.shape[0]) & (column >= 0) & (column < area.shape[1])
    result = np.zeros(within.shape, dtype=bool)
    result[within] = area[row[within], column[within]]
    return result
