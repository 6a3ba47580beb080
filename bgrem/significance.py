"""The significance plane: bright sources are certain, whatever a network learnt on faint ones."""

import numpy as np
from scipy import ndimage

from bgrem.tiling import row_strips

__all__ = ["raise_bright"]

CERTAIN_SNR = 100.0  # in the cleaned image: the significance of such a source is 0 at the least
BRIGHT_SNR = 50.0  # fainter sources are left to the network
SNR_PER_UNIT = 10.0  # beyond CERTAIN_SNR the significance grows by 1 with so much S/N
TYPICAL_FWHM = 3.0  # px, where it is unknown
HEIGHT = 512  # rows that are worked on at once


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
        near = ndimage.binary_dilation(artefact[top:bottom], np.ones((3, 3), bool))
        seen = sources[top:bottom] / rms_rows(top, top + len(near))
        snr = ndimage.gaussian_filter(np.where(near, 0, seen).astype(np.float32), sigma)
        # A Gaussian of unit sum leaves 1 / sqrt(4 pi sigma^2) of white noise.
        snr *= np.float32(np.sqrt(4 * np.pi) * sigma)
        bright = ~near & (snr > BRIGHT_SNR)
        own = slice(rows.start - top, rows.stop - top)
        certain = np.where(bright, (snr - CERTAIN_SNR) / SNR_PER_UNIT, -np.inf)[own]
        significance[rows] = np.fmax(significance[rows], certain)
