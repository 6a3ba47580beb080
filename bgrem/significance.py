"""The significance plane: what the chances of single pixels to be a centre say of a source.

The centre of a faint or wide source may be in any of many pixels, none of which is likely to be it:
their chances are gathered. Bright sources are certain, whatever a network learnt on faint ones.
"""

import numpy as np

from bgrem.filters import gaussian_filter, maximum_filter
from bgrem.tiling import row_strips

__all__ = ["gather", "raise_bright"]

CERTAIN_SNR = 100.0  # in the cleaned image: the significance of such a source is 0 at the least
BRIGHT_SNR = 50.0  # fainter sources are left to the network
SNR_PER_UNIT = 10.0  # beyond CERTAIN_SNR the significance grows by 1 with so much S/N
TYPICAL_FWHM = 3.0  # px, where it is unknown
HEIGHT = 512  # rows that are worked on at once
# FWHM: deviation of the Gaussian in which chances are gathered. It weighs as a disc of half a FWHM
# does, in which a detection counts as that of a source.
REACH = 0.4
# FWHM: what a network is taught to call a centre (`bgrem.parents`), so much around the true one.
CENTRE = 0.25
LEAST_CHANCE = 1e-12


def gather(significance, fwhm) -> None:
    """From the logit that a pixel is a centre to that of a source's being near, in place.

    The chances of the pixels are summed, weighted by a Gaussian of `REACH`; the sum is 1 where
    all pixels that a single source's centre covers, and no others, are certain. Its logarithm,
    which for small chances is the logit, goes on above 0.

    Parameters
    ----------
    significance : `~numpy.ndarray`
        Logits of shape (ny, nx), float32 or float64; NaN is no chance at all.
    fwhm : float
        Of the stars, in pixels; NaN where unknown.
    """
    sigma = REACH * (fwhm if np.isfinite(fwhm) else TYPICAL_FWHM)
    whole = np.float32(1 - np.exp(-0.5 * (CENTRE / REACH) ** 2))
    margin = int(4 * sigma) + 2
    above = np.empty((0, significance.shape[1]), np.float32)  # chances that were there before
    for rows in row_strips(significance.shape, HEIGHT):
        chance = np.concatenate([above, _chance(significance[rows.start : rows.stop + margin])])
        gathered = gaussian_filter(chance, sigma)
        own = slice(len(above), len(above) + rows.stop - rows.start)
        significance[rows] = np.log(np.maximum(gathered[own] / whole, LEAST_CHANCE))
        above = chance[own][-margin:]


def _chance(logit) -> np.ndarray:
    logit = np.clip(np.nan_to_num(logit, nan=-np.inf), -80, 80).astype(np.float32)
    return 1 / (1 + np.exp(-logit))


def raise_bright(significance, sources, rms_rows, artefact, fwhm) -> None:
    """Raise the significance of bright sources to what their S/N says, in place.

    The S/N is that of the sources under a Gaussian of the stars' width, over the noise that it
    leaves of the sky's. Pixels at artefacts do not count.

    Parameters
    ----------
    significance, sources : `~numpy.ndarray`
        Of shape (ny, nx), the sources in data units.
    rms_rows : callable
        Gives the noise of the rows ``start`` to ``stop``.
    artefact : array_like of bool
        Slices into rows; True where the model found an artefact, (ny, nx).
    fwhm : float
        Of the stars, in pixels; NaN where unknown.
    """
    sigma = (fwhm if np.isfinite(fwhm) else TYPICAL_FWHM) / 2.3548
    margin = int(4 * sigma) + 2  # as far as the Gaussian reaches
    for rows in row_strips(significance.shape, HEIGHT):
        top, bottom = max(rows.start - margin, 0), rows.stop + margin
        near = maximum_filter(np.asarray(artefact[top:bottom]), 3)
        with np.errstate(invalid="ignore"):  # NumPy 1.26 may tell of one where there is none
            seen = sources[top:bottom] / rms_rows(top, top + len(near))
        snr = gaussian_filter(np.where(near, 0, seen).astype(np.float32), sigma, outside="mirror")
        # A Gaussian of unit sum leaves 1 / sqrt(4 pi sigma^2) of white noise.
        snr *= np.float32(np.sqrt(4 * np.pi) * sigma)
        bright = ~near & (snr > BRIGHT_SNR)
        own = slice(rows.start - top, rows.stop - top)
        certain = np.where(bright, (snr - CERTAIN_SNR) / SNR_PER_UNIT, -np.inf)[own]
        significance[rows] = np.fmax(significance[rows], certain)
