"""Segments of the sources plane, and the shapes of the sources in them."""

from dataclasses import dataclass, fields

import numpy as np
import sep

__all__ = ["Segments", "Shapes", "find_segments", "half_light_radii", "shapes_of"]

THRESHOLD = 0.7  # rms: height of a segment in the sources plane, whose noise is low
LEAST_AREA = 3  # pixels
DEBLENDING, CONTRAST = 32, 0.005  # SExtractor's DEBLEND_NTHRESH and DEBLEND_MINCONT
FEWEST_PIXELS = 300_000  # that sep has room for: its own number
MOST_PARTS = 4096  # of a blend
LEAST_AXIS = 0.3  # px
OTHERS = 0.2  # of the light of a segment: what its other sources may have


@dataclass(frozen=True, eq=False)
class Segments:
    """Segments of an image: ``labels`` (ny, nx) int32, 0 outside them, and the table of `sep.extract`."""

    labels: np.ndarray
    table: np.ndarray


@dataclass(frozen=True, eq=False)
class Shapes:
    """Ellipses of sources, (n,) float64 each.

    Attributes
    ----------
    a, b : ndarray
        Deviations along the long and the short axis in pixels.
    theta : ndarray
        Angle of the long axis from the x axis in radians, -pi/2 to pi/2.
    label, segment : ndarray of int32
        Segment of the source; the former is 0 where it is not the source's own.
    """

    a: np.ndarray
    b: np.ndarray
    theta: np.ndarray
    label: np.ndarray
    segment: np.ndarray

    def of(self, chosen):
        """The shapes of some sources."""
        return Shapes(*(getattr(self, field.name)[chosen] for field in fields(self)))


def find_segments(sources, rms):
    """Connected pixels of the sources plane, deblended as by SExtractor (Bertin & Arnouts 1996, A&AS 117, 393).

    Parameters
    ----------
    sources, rms : (ny, nx) array

    Returns
    -------
    Segments
    """
    height = np.ascontiguousarray(np.nan_to_num(sources / rms), dtype=np.float32)
    lit = int(np.count_nonzero(height > THRESHOLD))
    sep.set_extract_pixstack(max(FEWEST_PIXELS, 2 * lit))
    sep.set_sub_object_limit(MOST_PARTS)
    for threshold in THRESHOLD * np.array([1.0, 3.0, 10.0]):
        try:
            table, labels = sep.extract(
                height, threshold, minarea=LEAST_AREA, filter_kernel=None, deblend_nthresh=DEBLENDING,
                deblend_cont=CONTRAST, clean=False, segmentation_map=True,
            )  # fmt: skip
        except Exception:  # noqa: BLE001, S112 - sep raises no other class where its buffers are full
            continue
        return Segments(labels, table)
    return Segments(np.zeros(height.shape, np.int32), np.zeros(0, np.dtype([("a", float)])))


def shapes_of(segments, x, y, flux, sigma):
    """Second moments of the sources, those of the PSF where a source has no segment of its own.

    Parameters
    ----------
    segments : Segments
    x, y : (n,) array
        Places in pixels.
    flux : (n,) array
        Of the PSF, by which the main source of a segment is known.
    sigma : float
        Standard deviation of the PSF in pixels.

    Returns
    -------
    Shapes
    """
    ny, nx = segments.labels.shape
    row = np.clip(np.rint(y).astype(int), 0, ny - 1)
    column = np.clip(np.rint(x).astype(int), 0, nx - 1)
    segment = segments.labels[row, column]
    flux = np.maximum(np.nan_to_num(flux), 0)
    count = len(segments.table) + 1
    total = np.bincount(segment, flux, minlength=count)
    main = flux >= (1 - OTHERS) * total[segment]
    single = np.bincount(segment, minlength=count)[segment] == 1
    label = np.where(main | single, segment, 0)
    own = label > 0
    a, b, theta = np.full(len(label), sigma), np.full(len(label), sigma), np.zeros(len(label))
    if own.any():
        objects = segments.table[label[own] - 1]
        a[own], b[own], theta[own] = (objects[name] for name in ("a", "b", "theta"))
    a, b = (np.maximum(np.nan_to_num(axis), LEAST_AXIS) for axis in (a, b))
    theta = np.clip(np.nan_to_num(theta), -0.5 * np.pi, 0.5 * np.pi)
    return Shapes(a, b, theta, label, segment)


def half_light_radii(image, bad, place, reach, flux, segments, segment):
    """Radii of the circles with half of the light (FLUX_RADIUS), in pixels.

    Parameters
    ----------
    image : (ny, nx) float32 array
        Sky-subtracted.
    bad : (ny, nx) bool
    place : (x, y), each an (n,) array
    reach, flux : (n,) array
        The radius of the largest circle, and the light that counts as all.
    segments : Segments
    segment : (n,) int32
        Those of the sources: pixels of other segments do not count.

    Returns
    -------
    (n,) float64
        NaN where the light is not positive.
    """
    radius, _ = sep.flux_radius(
        image, *place, reach, 0.5, normflux=np.maximum(flux, 1e-30), mask=bad, subpix=5,
        seg_id=segment, segmap=segments.labels,
    )  # fmt: skip
    return np.where((flux > 0) & (radius > 0), radius, np.nan)
