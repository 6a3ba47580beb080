"""Detection on the planes of bgrem.

Every detector gives a table of x, y and score (`bgrem.detection.peaks.DETECTION`). The table goes far below any
sensible threshold: the score decides how deep a comparison goes.

- `detect_peaks`: local maxima of any plane, such as bgrem's significance.
- `detect_on_sources`: local maxima of the lightly smoothed sources over the noise, for a model
  without a significance plane.

`bgrem.detection.sextractor` and `bgrem.detection.point_sources` hold SExtractor and the matched filter.
"""

import numpy as np

from bgrem.arrays.filters import gaussian_filter
from bgrem.detection.peaks import local_maxima

__all__ = ["detect_on_sources", "detect_peaks"]


@np.errstate(all="ignore")
def detect_peaks(plane, *, threshold=-np.inf, mask=None):
    """Local maxima of a plane; the score is the plane's value.

    Parameters
    ----------
    plane : (ny, nx) array
        bgrem's `centre` logits, for example.
    threshold : float
        Lowest score.
    mask : (ny, nx) bool, optional
        True where nothing is to be detected.

    Returns
    -------
    structured array
        x, y, score.
    """
    return local_maxima(plane, threshold=threshold, usable=None if mask is None else ~mask)


def detect_on_sources(sources, rms, *, width=0.8, threshold=0.05, mask=None):
    """Local maxima of the smoothed sources over the noise.

    The smoothing joins the fragments of a faint source. The noise is removed, so the threshold lies
    far below one.

    Parameters
    ----------
    sources, rms : (ny, nx) array
        As `bgrem.separate` gives them.
    width : float
        Standard deviation of the smoothing Gaussian in pixels.
    threshold : float
        Lowest score.
    mask : (ny, nx) bool, optional
        True where nothing is to be detected.

    Returns
    -------
    structured array
        x, y, score; the score is the height of the smoothed plane.
    """
    plane = gaussian_filter(np.nan_to_num(sources / rms), width, outside="mirror")
    return detect_peaks(plane, threshold=threshold, mask=mask)
