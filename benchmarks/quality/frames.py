"""Frames that several commands share, and bgrem beside the matched filter that is given their PSF."""

import numpy as np

from bgrem.background import separate
from bgrem.detection.point_sources import detect_matched_filter
from bgrem.detection.psf import psf_fwhm
from bgrem.evaluate.bootstrap import compare
from bgrem.evaluate.froc import froc
from bgrem.evaluate.methods import BGREM, MATCHED_FILTER, detections_of
from bgrem.simulate.drawing import psf_of
from bgrem.train.parents import true_width

__all__ = [
    "CAMERA", "FALSE_PER_MPIX", "PLAIN", "Judged", "add_hits", "add_sizes", "between", "judged",
    "ratios_of", "widths_of",
]  # fmt: skip

#: Fields of a scene without the defects of a detector and without light that is wider than stars ...
CAMERA = dict.fromkeys(
    ("hot_pixels", "warm_pixels", "dead_pixels", "bad_columns", "satellite_trails", "large_galaxies",
     "discs", "gradient", "ghosts", "vignetting", "edge_strips", "gaps"), 0.0
)  # fmt: skip
#: ... and also without particles and without a pattern of the readout.
PLAIN = CAMERA | dict.fromkeys(
    ("cosmic_rays", "tail_fraction", "row_noise", "column_noise", "amplifier_step"), 0.0
)
FALSE_PER_MPIX = (10.0, 30.0, 100.0)
RESAMPLES = 300
MOST_PIXELS = 3  # of a small hit
STEPS = np.array([(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)])


def add_sizes(parser, *, frames, side, fwhm):
    """The options of commands that draw some square frames of each seeing."""
    parser.add_argument("--frames", type=int, default=frames, help=f"of each kind ({frames})")
    parser.add_argument("--side", type=int, default=side, help=f"of a frame in pixels ({side})")
    parser.add_argument(
        "--fwhm", type=float, nargs="+", default=list(fwhm), help="of the stars in pixels"
    )


def between(rng, limits, size=None):
    """Random numbers between two limits, even in their logarithm."""
    return np.exp(rng.uniform(*np.log(limits), size))


def add_hits(image, rng, rows, columns, heights):
    """Add small hits of particles to an image, in place.

    A hit has one to three pixels, each beside the one before; the second and the third have 0.2 to 1 of
    the height of the first.

    Parameters
    ----------
    image : (ny, nx) array
    rng : numpy.random.Generator
    rows, columns : (n,) int array
        The first pixels; those outside the image are left out.
    heights : (n,) array
        What is added to the first pixels.
    """
    for row, column, height in zip(rows, columns, heights, strict=True):
        place, share = np.array([row, column]), 1.0
        for _ in range(rng.integers(1, MOST_PIXELS + 1)):
            if (place >= 0).all() and (place < image.shape).all():
                image[tuple(place)] += share * height
            place, share = place + rng.choice(STEPS), rng.uniform(0.2, 1.0)


class Judged:
    """Detections of some methods on the same frames.

    Attributes
    ----------
    truths : list of bgrem.evaluate.truth.Truth
    tables : dict of str to list of structured array
        By the name of the method, the detections of each frame.
    curves : dict of str to bgrem.evaluate.froc.Froc
    fwhm : float
        Median of what bgrem measured, in pixels; NaN where it never could.
    """

    def __init__(self, truths, fwhm):
        self.truths, self.tables, self.curves = truths, {}, {}
        known = [width for width in fwhm if np.isfinite(width)]
        self.fwhm = float(np.median(known)) if known else np.nan

    def add(self, name, tables):
        """Score the detections of one more method."""
        self.tables[name], self.curves[name] = tables, froc(tables, self.truths)


def judged(frames, model):
    """Detect sources on frames by bgrem, and by the matched filter behind astroscrappy.

    Only the matched filter is given the PSF.

    Parameters
    ----------
    frames : iterable of bgrem.evaluate.methods.BenchmarkFrame
    model : bgrem.inference.model.Model

    Returns
    -------
    Judged
    """
    ours, theirs, truths, fwhm = [], [], [], []
    for frame in frames:
        parts = separate(frame.data, mask=frame.mask, model=model, maps=("significance",))
        ours.append(detections_of(parts, frame.mask))
        theirs.append(
            detect_matched_filter(frame.data, frame.psf, mask=frame.mask, gain=frame.gain)
        )
        truths.append(frame.truth)
        known = parts.provenance["fwhm_from"] != "assumed"
        fwhm.append(parts.provenance["fwhm"] if known else np.nan)
    seen = Judged(truths, fwhm)
    seen.add(BGREM, ours)
    seen.add(MATCHED_FILTER, theirs)
    return seen


def ratios_of(seen):
    """Columns: true detections of bgrem over those of the matched filter, with intervals of 68 %.

    NaN at rates that the area does not allow.
    """
    ours, theirs = seen.curves[BGREM], seen.curves[MATCHED_FILTER]
    rows = compare(
        ours, theirs, rng=np.random.default_rng(0), rates=FALSE_PER_MPIX, resamples=RESAMPLES
    )
    known = {row.rate: row for row in rows}
    columns = {"Mpix": ours.area, "sources": ours.count}
    for rate in FALSE_PER_MPIX:
        row = known.get(rate)
        columns[f"at {rate:g}"] = row.ratio if row else np.nan
        columns[f"68 % at {rate:g}"] = row.ratio_interval if row else (np.nan, np.nan)
    return columns


def widths_of(scene, seen):
    """Columns: the FWHM of the drawn PSF, what bgrem's measure gives for it without noise, and what it gave."""
    psf = psf_of(scene)
    widths = {"FWHM": psf_fwhm(psf.image), "equivalent": float(true_width(psf))}
    return widths | {"measured": seen.fwhm}
