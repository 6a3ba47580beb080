"""The places of sources: peaks of SIGNIF, and those of the sources plane where several share one peak."""

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from bgrem.arrays.filters import gaussian_filter, maximum_filter
from bgrem.detection.peaks import local_maxima
from bgrem.masks.flags import NOT_FINITE, SATURATED, UNSEEN

__all__ = ["FOUND_DTYPE", "find_sources"]

#: A source: its place in pixels (0-based), SIGNIF, and whether it was separated from a neighbour.
FOUND_DTYPE = np.dtype([("x", float), ("y", float), ("signif", float), ("blended", bool)])

BLEND_SMOOTHING = 0.12  # FWHM: deviation of the Gaussian that the sources plane is smoothed by
BLEND_REACH = 1.5  # FWHM: peaks of the sources plane this near to a peak of SIGNIF belong to it
LEAST_DEPTH = 3.0  # deviations of the noise: of the valley between two peaks of one blend
LEAST_PART = 0.02  # of the brighter peak: the depth of that valley
SURE_HEIGHT = 20.0  # deviations of the noise: lower sources are listed without a valley
NEAR_SEEN = 1.0  # FWHM: a peak in a bad pixel counts if a good pixel is as near


def find_sources(significance, sources, rms, flags, *, threshold, fwhm):
    """Find the sources of an image.

    A source is a peak of SIGNIF. SIGNIF gathers the light within about half a FWHM, so that of two stars nearer
    than 1.2 FWHM it has one peak. Where the sources plane has several peaks near that one, with a valley
    between them that noise does not make, they are the sources.

    Parameters
    ----------
    significance, sources, rms : (ny, nx) array
        Planes of a `~bgrem.Separation`.
    flags : (ny, nx) uint8
        Its mask.
    threshold : float
        Least SIGNIF.
    fwhm : float
        Of the stars, in pixels.

    Returns
    -------
    (n,) structured array
        `FOUND_DTYPE`, from the lowest row up.
    """
    usable = _near_good_pixels(flags, fwhm)
    peaks = local_maxima(significance, threshold=threshold, usable=usable)
    peaks = _one_in_each_core(peaks, flags)
    found = np.zeros(len(peaks), FOUND_DTYPE)
    for ours, theirs in (("x", "x"), ("y", "y"), ("signif", "score")):
        found[ours] = peaks[theirs]
    plane, noise = _smoothed(sources / rms, fwhm)
    found = _without_doubles(found, plane, noise, fwhm)
    usable = ((flags & (SATURATED | UNSEEN)) == 0) & (significance > threshold)
    found = _with_blends(found, significance, plane, noise, usable, fwhm)
    return found[np.argsort(found["y"], kind="stable")]


def _smoothed(sources, fwhm):
    """The sources plane, in units of the rms, after a small Gaussian, and white noise after it."""
    width = BLEND_SMOOTHING * fwhm
    plane = gaussian_filter(np.nan_to_num(sources), width, outside="mirror")
    return plane, 1 / (2 * np.sqrt(np.pi) * max(width, 0.5))


def _without_doubles(found, plane, noise, fwhm):
    """Sources without those that are no peak of the sources plane beside a brighter one, as in a bright core."""
    if len(found) < 2:
        return found
    height = plane[_pixels(found)]
    pairs = cKDTree(np.column_stack([found["x"], found["y"]])).query_pairs(
        BLEND_REACH * fwhm, output_type="ndarray"
    )
    if not len(pairs):
        return found
    # The fainter first.
    pairs = np.where((height[pairs[:, 0]] > height[pairs[:, 1]])[:, None], pairs[:, ::-1], pairs)
    pairs = pairs[height[pairs[:, 0]] > SURE_HEIGHT * noise]
    single = ~_is_apart(plane, found[pairs[:, 0]], found[pairs[:, 1]], noise)
    return np.delete(found, pairs[single, 0])


def _near_good_pixels(flags, fwhm):
    """Pixels that are seen, or a FWHM from one that is: the masked core of a star is its place."""
    unseen = (flags & UNSEEN) != 0
    if not unseen.any():
        return None
    near = maximum_filter((~unseen).view(np.uint8), 2 * round(NEAR_SEEN * fwhm) + 1)
    return (near > 0) & ((flags & NOT_FINITE) == 0)


def _one_in_each_core(peaks, flags):
    """The highest peak of each saturated core: its flat top has many."""
    saturated = (flags & SATURATED) != 0
    if not saturated.any() or not len(peaks):
        return peaks
    cores, _ = ndimage.label(saturated, np.ones((3, 3)))
    core = cores[np.rint(peaks["y"]).astype(int), np.rint(peaks["x"]).astype(int)]
    # Peaks are in the order of their height.
    first = np.zeros(len(peaks), bool)
    first[np.unique(core, return_index=True)[1]] = True
    return peaks[first | (core == 0)]


def _with_blends(found, significance, plane, noise, usable, fwhm):
    """Sources, those of several peaks of the sources plane replaced by them."""
    if not len(found):
        return found
    peaks = local_maxima(plane, threshold=LEAST_DEPTH * noise, usable=usable)
    if not len(peaks):
        return found
    places = np.column_stack([found["x"], found["y"]])
    distance, owner = cKDTree(places).query(np.column_stack([peaks["x"], peaks["y"]]))
    near = distance <= BLEND_REACH * fwhm
    peaks, owner = peaks[near], owner[near]
    order = np.argsort(owner, kind="stable")  # within an owner the highest first
    peaks, owner = peaks[order], owner[order]
    first = np.searchsorted(owner, owner)
    several = np.bincount(owner, minlength=len(found))[owner] > 1
    split = several & _is_apart(plane, peaks, peaks[first], noise)
    parents = np.unique(owner[split])
    chosen = split | (np.isin(owner, parents) & (np.arange(len(peaks)) == first))
    blends = np.zeros(np.count_nonzero(chosen), FOUND_DTYPE)
    blends["x"], blends["y"], blends["blended"] = peaks["x"][chosen], peaks["y"][chosen], True
    blends["signif"] = significance[_pixels(blends)]
    return np.concatenate([np.delete(found, parents), blends])


def _is_apart(plane, peaks, brighter, noise):
    """Whether the plane has a valley between each peak and the brighter one of its blend."""
    part = np.linspace(0, 1, 9)[:, None]
    rows, columns = (peaks[axis] + part * (brighter[axis] - peaks[axis]) for axis in ("y", "x"))
    along = ndimage.map_coordinates(plane, [rows, columns], order=1, mode="nearest")
    top = plane[_pixels(peaks)]
    depth = top - along.min(axis=0)
    return depth > np.maximum(LEAST_DEPTH * noise, LEAST_PART * plane[_pixels(brighter)])


def _pixels(table):
    return np.rint(table["y"]).astype(int), np.rint(table["x"]).astype(int)
