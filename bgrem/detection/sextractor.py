"""SExtractor through SEP: background, detection at one threshold, and at every threshold joined.

The defaults are those of SExtractor's default.sex and default.conv (Bertin & Arnouts 1996, A&AS 117, 393).
"""

from dataclasses import dataclass

import numpy as np
import sep

from bgrem.arrays.filters import minimum_filter
from bgrem.detection.peaks import DETECTION, detection_table

__all__ = [
    "DEFAULT_AREA", "DEFAULT_CONV", "DEFAULT_MESH", "Subtracted", "clean_input",
    "detect_sextractor", "detect_sextractor_default", "extract", "join_runs", "scan_thresholds",
    "subtract_sky", "threshold_ladder",
]  # fmt: skip

#: SExtractor's default.conv, the 3 x 3 "all-ground" filter.
DEFAULT_CONV = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=np.float32)
#: SExtractor's defaults (default.sex): mesh, minimum area, threshold in sigma, deblending.
DEFAULT_MESH = 64
DEFAULT_AREA = 5
DEFAULT_THRESHOLD = 1.5
DEFAULT_DEBLEND = (32, 0.005)
#: Detections of two thresholds closer than this are one, pixels.
SAME_DETECTION = 1.5


@dataclass(frozen=True)
class Subtracted:
    """An image without its sky, and the noise of that.

    Attributes
    ----------
    residual, rms : (ny, nx) float32
        Sky-subtracted image and noise map, data units.
    global_rms : float
        Noise of the whole frame.
    """

    residual: np.ndarray
    rms: np.ndarray
    global_rms: float


def subtract_sky(data, *, mask=None, mesh=DEFAULT_MESH, passes=1):
    """SExtractor's background, with its objects masked in every pass after the first.

    Parameters
    ----------
    data : (ny, nx) array
    mask : (ny, nx) bool, optional
        True where a pixel is bad.
    mesh : int
        Side of the mesh's boxes in pixels.
    passes : int
        1 is what SExtractor does; 2 keeps the wings of objects out of the mesh.

    Returns
    -------
    Subtracted
    """
    image, bad = clean_input(data, mask)
    hidden = bad
    for left in reversed(range(passes)):
        background = sep.Background(image, mask=hidden, bw=mesh, bh=mesh, fw=3, fh=3)
        residual = image - background.back()
        rms = _without_undershoot(background.rms(), mesh, background.globalrms)
        if left:
            hidden = bad | _object_mask(residual, rms, bad)
            # SEP does not trust a box that is masked by half.
            if hidden.mean() > 0.5:
                break
    return Subtracted(residual, rms.astype(np.float32), float(background.globalrms))


def _without_undershoot(rms, mesh, global_rms):
    """The noise map, nowhere below the least of the boxes around.

    The spline through the boxes swings below zero beside one that a bright star fills; thousands of
    detections there would be surer than any star.
    """
    ny, nx = rms.shape
    # The spline meets the boxes' values in their middles.
    rows, columns = (np.arange(min(mesh, size) // 2, size, mesh) for size in (ny, nx))
    least = minimum_filter(rms[np.ix_(rows, columns)], 3)
    row, column = (
        np.minimum(np.arange(size) // mesh, nodes.size - 1)
        for size, nodes in ((ny, rows), (nx, columns))
    )
    floor = np.maximum(least[np.ix_(row, column)], 1e-3 * global_rms)
    return np.maximum(rms, floor)


def _object_mask(residual, rms, bad):
    """Pixels of objects, four pixels wider than their isophote of two sigma."""
    _, segments = sep.extract(
        residual / rms, 2.0, mask=bad, filter_kernel=DEFAULT_CONV, filter_type="conv",
        segmentation_map=True, clean=False,
    )  # fmt: skip
    from scipy.ndimage import binary_dilation

    return binary_dilation(segments > 0, iterations=4)


def clean_input(data, mask):
    """Native float32 image, and its bad pixels with what is not finite added."""
    image = np.ascontiguousarray(data, dtype=np.float32)
    bad = ~np.isfinite(image)
    if mask is not None:
        bad |= np.asarray(mask, dtype=bool)
    return np.where(np.isfinite(image), image, np.float32(0)), bad


def threshold_ladder(lowest=0.7, highest=100.0):
    """DETECT_THRESH values: 3 % steps below 3, 15 % above.

    Parameters
    ----------
    lowest, highest : float
        In units of the noise.

    Returns
    -------
    (k,) float64
        Descending.
    """
    fine = np.geomspace(lowest, 3.0, int(np.log(3.0 / lowest) / 0.03) + 1)
    coarse = np.geomspace(3.0, highest, int(np.log(highest / 3.0) / 0.15) + 1)
    return np.concatenate([fine, coarse[1:]])[::-1]


def join_runs(runs, thresholds, *, radius):
    """One scored list from runs at descending thresholds.

    A detection's score is the highest threshold at which it is there.  A list at a lower threshold
    holds those of the higher ones, so no single run can have more of the true sources: blends that a
    low threshold merges stay apart.  Within a step the surer detection goes first.

    Parameters
    ----------
    runs : list of structured array
        x, y, score of each run; the score is an S/N.
    thresholds : (k,) array
        Descending.
    radius : float
        Detections of two runs closer than this are one, in pixels.

    Returns
    -------
    structured array
        x, y, score.
    """
    from scipy.spatial import cKDTree

    joined = np.empty(0, dtype=DETECTION)
    for i, (run, threshold) in enumerate(zip(runs, thresholds, strict=True)):
        new = run
        if joined.size and run.size:
            known = cKDTree(np.column_stack([joined["x"], joined["y"]]))
            distance, _ = known.query(np.column_stack([run["x"], run["y"]]))
            new = run[distance > radius]
        above = thresholds[i - 1] if i else threshold * 1.2
        rank = np.argsort(np.argsort(new["score"], kind="stable"), kind="stable")
        within = threshold + (above - threshold) * rank / max(new.size, 1)
        joined = np.concatenate([joined, detection_table(new["x"], new["y"], within)])
    return detection_table(joined["x"], joined["y"], joined["score"])


def scan_thresholds(run, thresholds, *, enough=None, radius=SAME_DETECTION):
    """The joined runs of a detector at descending thresholds.

    Parameters
    ----------
    run : callable
        Of a threshold: structured array of x, y, score.
    thresholds : (k,) array
        Descending.
    enough : callable, optional
        Called after each run with its detections. True ends the scan: the list is complete down to
        that threshold, and the lowest thresholds take most of the time.
    radius : float
        Detections of two runs closer than this are one, in pixels.

    Returns
    -------
    structured array
        x, y, score; see `join_runs`.
    """
    runs = []
    for threshold in thresholds:
        runs.append(run(threshold))
        if enough is not None and enough(runs[-1]):
            break
    return join_runs(runs, thresholds[: len(runs)], radius=radius)


def extract(sky, threshold, *, mask=None, kernel=DEFAULT_CONV, area=DEFAULT_AREA, local=False):
    """One run of SExtractor's detection by SEP.

    As in the program, the image is filtered and compared to the *unfiltered* sky's noise.

    Parameters
    ----------
    sky : Subtracted
    threshold : float
        DETECT_THRESH, in units of that noise.
    mask : (ny, nx) bool, optional
        Bad pixels.
    kernel : (n, n) float32
        Detection filter.
    area : int
        DETECT_MINAREA, pixels.
    local : bool
        Whether the noise is that of the map (WEIGHT_TYPE BACKGROUND) or the frame's.

    Returns
    -------
    structured array
        x, y, score; the score is the filtered peak over the noise.
    """
    image = sky.residual / sky.rms if local else sky.residual / np.float32(sky.global_rms)
    levels, contrast = DEFAULT_DEBLEND
    # The library's limits are for sensible thresholds; the ladder goes below.
    sep.set_extract_pixstack(max(300_000, image.size))
    sep.set_sub_object_limit(65_536)
    objects = sep.extract(
        image, threshold, mask=mask, minarea=area, filter_kernel=kernel, filter_type="conv",
        deblend_nthresh=levels, deblend_cont=contrast, clean=True, clean_param=1.0,
    )  # fmt: skip
    return detection_table(objects["x"], objects["y"], objects["cpeak"])


def detect_sextractor_default(data, *, mask=None):
    """SExtractor as it comes, through SEP: one run at its DETECT_THRESH of 1.5, best peak first.

    Parameters
    ----------
    data : (ny, nx) array
    mask : (ny, nx) bool, optional
        Bad pixels.

    Returns
    -------
    structured array
        x, y, score; the score is the filtered peak over the noise.
    """
    _, bad = clean_input(data, mask)
    return extract(subtract_sky(data, mask=mask), DEFAULT_THRESHOLD, mask=bad)


def detect_sextractor(
    data, *, mask=None, kernel=DEFAULT_CONV, area=DEFAULT_AREA, local=False, lowest=0.7, enough=None,
):  # fmt: skip
    """SExtractor's defaults through SEP, at every threshold of `threshold_ladder`, joined.

    The false-alarm rate of SExtractor is set by DETECT_THRESH: one run for each, everything else at
    its default (mesh 64, default.conv, five pixels, 32 levels, contrast 0.005).

    Parameters
    ----------
    data : (ny, nx) array
    mask : (ny, nx) bool, optional
        Bad pixels: left out of the background and of the detection.
    kernel : (n, n) array
        Detection filter.
    area : int
        DETECT_MINAREA, pixels.
    local : bool
        Threshold in units of the noise map rather than of the frame's noise.
    lowest : float
        Lowest DETECT_THRESH.
    enough : callable, optional
        See `scan_thresholds`.

    Returns
    -------
    structured array
        x, y, score; see `join_runs`.
    """
    _, bad = clean_input(data, mask)
    sky = subtract_sky(data, mask=mask)
    kernel = np.ascontiguousarray(kernel, dtype=np.float32)
    return scan_thresholds(
        lambda threshold: extract(sky, threshold, mask=bad, kernel=kernel, area=area, local=local),
        threshold_ladder(lowest), enough=enough,
    )  # fmt: skip
