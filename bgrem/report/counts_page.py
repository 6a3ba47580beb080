"""What the page of a counts map shows: pictures with a square-root stretch, detections, and a test of the counts."""

import base64
from collections.abc import Mapping

import numpy as np

from bgrem.detection.detect import detect_peaks
from bgrem.detection.photometry import aperture_fluxes
from bgrem.masks.flags import UNSEEN
from bgrem.report.charts import counts_chart
from bgrem.report.pictures import PICTURE_GAP, averaged, block_factor, png
from bgrem.separation import Separation

__all__ = ["counts_context", "counts_picture", "expected_pixels"]

COUNTS_PICTURE_SIDE = 1024  # pixels; larger maps are averaged down
COUNTS_THUMBNAIL_SIDE = 240  # pixels
BRIGHTEST_PART = 1e-3  # of the pixels may be white
LISTED_DETECTIONS = 200
HIGHEST_SIGNIF = 12.0  # of the picture
HISTOGRAM_BARS = 60
LARGEST_COUNT = 4000  # the last bar holds all pixels with more
EXPECTED_LEVELS = 400  # of expected counts, whose Poisson distributions are added up


def counts_context(parts: Separation, header: Mapping) -> dict:
    """The numbers, pictures and tables of the page of a counts map.

    Parameters
    ----------
    parts : `~bgrem.separation.Separation`
        Of a counts map, with a ``CountsBackground`` as sky.
    header : mapping
        Of the image; its WCS gives the coordinates of the detections.

    Returns
    -------
    dict
        Variables of the template ``counts.html``.
    """
    good = (parts.mask & UNSEEN) == 0
    threshold = parts.provenance["signif_10"]
    detections = _detections(parts, good, threshold)
    radius = _radius(parts)
    edges, observed, expected = expected_pixels(
        np.asarray(parts.data)[good], (parts.sources + parts.background)[good]
    )
    total = {
        "counts": float(np.asarray(parts.data)[good].sum(dtype=np.float64)),
        "sources": float(parts.sources[good].sum(dtype=np.float64)),
        "background": float(parts.background[good].sum(dtype=np.float64)),
    }
    ny, nx = parts.data.shape
    found = "" if detections is None else f"; {len(detections)} detections"
    return {
        "shape": (ny, nx),
        "factor": block_factor((ny, nx), COUNTS_PICTURE_SIDE),
        "total": total,
        "threshold": threshold,
        "detections": None if detections is None else len(detections),
        "radius": radius,
        "columns": [],
        "rows": [],
        "marks": [],
        "pictures": _pictures_of_counts(parts, good),
        "chart": counts_chart(edges, observed, expected),
        "thumbnail": _uri(_thumbnail_of_counts(parts)),
        "line": f"{nx} × {ny} px, {total['counts']:.6g} counts, {total['sources']:.5g} of sources{found}",
    } | ({} if detections is None else _listed_detections(parts, detections, radius, header))


def counts_picture(parts: Separation) -> bytes:
    """One PNG: the counts on the left, the sources on the right, each with a square-root stretch."""
    factor = block_factor(parts.data.shape, COUNTS_PICTURE_SIDE)
    before, after = (_root_grey(averaged(part, factor)) for part in (parts.data, parts.sources))
    return png(np.hstack([before, np.full((len(before), PICTURE_GAP), 255, np.uint8), after]))


def expected_pixels(counts, expected):
    """How many pixels have how many counts, and how many of them are expected.

    Parameters
    ----------
    counts, expected : (n,) array
        Counts of pixels, and the expectations of their Poisson distributions.

    Returns
    -------
    edges : (m + 1,) array of int
        A bar holds the pixels with edges[i] to edges[i + 1] - 1 counts; the last one all with more, too.
    observed, expected : (m,) array
        Pixels.
    """
    counts = np.asarray(counts, np.float64)
    most = int(min(max(counts.max(initial=0), 1), LARGEST_COUNT))
    edges = np.arange(most + 2)
    if most > HISTOGRAM_BARS:
        edges = np.unique(
            np.rint(np.linspace(0, np.sqrt(most + 1), HISTOGRAM_BARS + 1) ** 2)
        ).astype(int)
    observed = np.histogram(np.minimum(counts, most), edges)[0]
    # The mean of the expectations that are nearly the same stands for each of them.
    logs = np.log10(np.maximum(expected, 1e-9))
    levels = np.histogram_bin_edges(logs, EXPECTED_LEVELS)
    place = np.clip(np.digitize(logs, levels) - 1, 0, EXPECTED_LEVELS - 1)
    number = np.bincount(place, minlength=EXPECTED_LEVELS)
    mean = (
        np.bincount(place, np.maximum(expected, 1e-9), EXPECTED_LEVELS)[number > 0]
        / number[number > 0]
    )
    n = np.arange(most + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(n[1:]))])
    law = np.exp(n * np.log(mean)[:, None] - mean[:, None] - log_factorial)
    pixels = number[number > 0] @ law
    pixels[-1] += max(len(counts) - pixels.sum(), 0.0)
    return edges, observed, np.add.reduceat(pixels, edges[:-1])


def _radius(parts) -> float:
    return max(1.5, float(parts.provenance["fwhm"]))


def _detections(parts, good, threshold):
    """Maxima of SIGNIF, the most significant first; None where the model gives no plane or no threshold."""
    if parts.significance is None or threshold is None:
        return None
    found = detect_peaks(np.nan_to_num(parts.significance), threshold=threshold, mask=~good)
    return found[np.argsort(-found["score"])]


def _listed_detections(parts, found, radius, header) -> dict:
    """Columns and rows of the table of the detections, and their marks in the pictures."""
    found = found[:LISTED_DETECTIONS]
    x, y = found["x"], found["y"]
    light, behind = (
        aperture_fluxes(part, x, y, radius) for part in (parts.sources, parts.background)
    )
    columns = {"x": x, "y": y} | _coordinates(header, x, y)
    columns |= {"SIGNIF": found["score"], "source counts": light, "background counts": behind}
    ny = parts.data.shape[0]
    return {
        "columns": list(columns),
        "rows": [[f"{value:.7g}" for value in row] for row in zip(*columns.values(), strict=True)],
        # Pictures have their first row at the top.
        "marks": [
            [round(float(a) + 0.5, 1), round(ny - float(b) - 0.5, 1)]
            for a, b in zip(x, y, strict=True)
        ],
    }


def _coordinates(header, x, y) -> dict:
    """Longitudes and latitudes in degrees, by the names of the axes, where the header has a celestial WCS."""
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    try:
        wcs = WCS(header if isinstance(header, Header) else Header(header), naxis=2)
        if not wcs.has_celestial:
            return {}
        places = wcs.wcs_pix2world(np.column_stack([x, y]), 0)
    except Exception:  # noqa: BLE001 - a WCS that astropy cannot read costs two columns
        return {}
    return {f"{wcs.wcs.ctype[axis][:4].rstrip('-')} [deg]": places[:, axis] for axis in (0, 1)}


def _pictures_of_counts(parts, good) -> list[dict]:
    """Counts, sources, background and significance; sources and background share their white."""
    factor = block_factor(parts.data.shape, COUNTS_PICTURE_SIDE)
    planes = [
        averaged(np.where(good, part, np.nan), factor)
        for part in (parts.data, parts.sources, parts.background)
    ]
    counts, sources, background = planes
    white = _white(sources + background)
    shown = [
        _shown("Counts", counts, _white(counts), marked=False),
        _shown("Sources, expected counts", sources, white, marked=True),
        _shown("Background, expected counts", background, white, marked=False),
    ]
    if parts.significance is not None:
        plane = averaged(np.where(good, parts.significance, np.nan), factor)
        shown.append(_shown_significance(plane))
    return shown


def _shown(title, plane, white, *, marked) -> dict:
    return {
        "title": title,
        "uri": _uri(png(_root_grey(plane, white))),
        "low": 0.0,
        "white": white,
        "marked": marked,
        "root": True,
    }


def _shown_significance(plane) -> dict:
    """SIGNIF from its median on."""
    values = plane[np.isfinite(plane)]
    low = float(np.median(values)) if values.size else 0.0
    high = max(min(float(values.max(initial=0.0)), HIGHEST_SIGNIF), low + 1)
    part = np.clip((np.nan_to_num(plane, nan=low) - low) / (high - low), 0, 1)
    uri = _uri(png(np.rint(255 * part).astype(np.uint8)))
    return {"title": "SIGNIF", "uri": uri, "low": low, "white": high, "marked": True, "root": False}


def _white(plane) -> float:
    """The value that only few pixels exceed."""
    values = plane[np.isfinite(plane)]
    return max(float(np.quantile(values, 1 - BRIGHTEST_PART)) if values.size else 1.0, 1e-9)


def _root_grey(plane, white=None) -> np.ndarray:
    """Grey levels by a square-root stretch from 0, on which the noise of counts is the same everywhere."""
    white = _white(plane) if white is None else white
    return np.rint(255 * np.sqrt(np.clip(np.nan_to_num(plane) / white, 0, 1))).astype(np.uint8)


def _thumbnail_of_counts(parts) -> bytes:
    """The counts on the left, the sources on the right."""
    factor = block_factor(parts.data.shape, COUNTS_THUMBNAIL_SIDE)
    before, after = (_root_grey(averaged(part, factor)) for part in (parts.data, parts.sources))
    middle = before.shape[1] // 2
    return png(np.hstack([before[:, :middle], after[:, middle:]]))


def _uri(picture: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(picture).decode()
