"""False detections of a frame, counted in its own noise with the sign changed.

Noise is symmetric: data - background - sources with the sign changed has the correlation of the noise and holds no
source. What is detected in it is false. Defects are not symmetric, they stay as they are. Detected sources stay, too,
because the width of the stars, the crowding and the level of the sky are measured on the frame; around them nothing
is counted.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage

from bgrem.catalogue.detections import find_sources
from bgrem.catalogue.point_spread import FramePSF
from bgrem.detection.psf import sharper_than_stars
from bgrem.masks.areas import around, grown, inside
from bgrem.masks.flags import ARTEFACT, SATURATED, UNSEEN
from bgrem.sky.estimate import quantisation_step

__all__ = [
    "FalseDetections", "FramePart", "count_false", "cut_part", "false_of_card", "lowest_threshold",
    "mirrored_data",
]  # fmt: skip

# False detections per Mpix, by the card, above the SIGNIF from which they are counted, and from which sources stay.
COUNTED_RATE, SURE_RATE = 300.0, 1.0
WITHOUT_CARD = 3.0  # SIGNIF below the threshold of the list: what is counted without a card
LEAST_CLEAR = 0.02  # Mpix between the sources, from which false detections are counted
LEAST_COUNTED = 10  # false detections, from which a curve without a card is fitted
SHIFT_SIGMA, SCALE_SIGMA = 1.0, 0.5  # prior of a frame's curve: SIGNIF, and e-folds of the number
CLEARANCE = 1.0  # FWHM: around sources nothing is counted
FAINTEST_KEPT = 0.1  # rms: outline of a source that is kept
OUTER_LIGHT = 0.3  # rms: in brighter parts of it nothing is counted
NARROW = 2.5  # px FWHM: in narrower stars an artefact in a detection may be the star
MODEL_ERROR = 0.05  # relative error of the PSF beside its middle
NODE_STEP = 0.25  # SIGNIF: of the table of P_REAL
LEAST_KERNEL = 0.7  # SIGNIF: deviation of the kernel that smooths the real detections
MOST_IN_MIXTURE, MIXTURE_ROUNDS = 2000, 50  # detections and iterations that P_REAL is found with


@dataclass(frozen=True, eq=False)
class FramePart:
    """A part of a frame, float32 planes of shape (ny, nx) in units of the median sky rms.

    Attributes
    ----------
    data : ndarray
        As observed, in data units.
    image : ndarray
        Data - background, 0 in pixels without data.
    wide, sources, rms : ndarray
        Wide light, the other sources, and the noise of the sky.
    flags : ndarray of uint8
    found : structured array
        Detections above `lowest_threshold`, `bgrem.catalogue.detections.FOUND_DTYPE`.
    unit : float
        Median sky rms in data units.
    step : float
        Between possible values of the data, in data units; 0 for none.
    psf : FramePSF
    weighted : bool
        Whether the noise of the frame is that of a weight map.
    """

    data: np.ndarray
    image: np.ndarray
    wide: np.ndarray
    sources: np.ndarray
    rms: np.ndarray
    flags: np.ndarray
    found: np.ndarray
    unit: float
    step: float
    psf: FramePSF
    weighted: bool

    @property
    def noise(self):
        """Keywords of `bgrem.separate` with which the part has the noise of the frame, if a weight map gave it."""
        if not self.weighted:
            return {}
        return {"weight": self.rms * np.float64(self.unit), "weight_type": "rms"}

    @property
    def unseen(self):
        """Pixels without data, (ny, nx) bool."""
        return (self.flags & UNSEEN) != 0


@dataclass(frozen=True, eq=False)
class FalseDetections:
    """False detections against SIGNIF, and the probability that a detection is real.

    Attributes
    ----------
    signif, per_mpix : (n,) float64
        SIGNIF, ascending, and the false detections per Mpix of sky above it.
    ratio_signif, ratio : (m,) float64
        SIGNIF, ascending, and the density of all detections over that of the false ones there.
    counted : int
        False detections in the mirrored noise.
    clear : float
        Mpix in which they were counted.
    """

    signif: np.ndarray
    per_mpix: np.ndarray
    ratio_signif: np.ndarray = field(default_factory=lambda: np.zeros(1))
    ratio: np.ndarray = field(default_factory=lambda: np.ones(1))
    counted: int = 0
    clear: float = 0.0

    @property
    def is_measured(self):
        """Whether they were counted on a frame with detections."""
        return self.clear > 0 and len(self.ratio) > 1

    def above(self, signif):
        """False detections per Mpix above a SIGNIF, float64; the logarithm is linear between and beyond the nodes."""
        return np.exp(_line(signif, self.signif, np.log(self.per_mpix)))

    def threshold_for(self, rate):
        """SIGNIF above which there are `rate` false detections per Mpix, float."""
        falling = np.log(self.per_mpix)[::-1]
        return float(_line(np.log(rate), falling, self.signif[::-1]))

    def p_real(self, signif):
        """Probability that a detection is real: 1 - density of the false over that of all, (n,) float64."""
        ratio = np.exp(np.interp(signif, self.ratio_signif, np.log(self.ratio)))
        return np.where(np.isnan(signif), np.nan, 1 - 1 / ratio)

    def least_signif(self, purity):
        """Lowest SIGNIF of detections that are real with a probability, float."""
        nodes = self.ratio_signif
        sure = self.p_real(nodes) >= purity
        return float(nodes[sure].min()) if sure.any() else np.inf


def lowest_threshold(card, threshold):
    """SIGNIF from which detections are counted, float: that of 300 false ones per Mpix by the card."""
    known = card.calibration
    if known is None:
        return float(threshold) - WITHOUT_CARD
    return known.threshold_for(min(COUNTED_RATE, known.false_alarms[0]))


def cut_part(parts, window, psf, lowest):
    """The part of a frame in a window.

    Parameters
    ----------
    parts : `~bgrem.Separation`
    window : (slice, slice)
        Rows and columns.
    psf : FramePSF
    lowest : float
        Least SIGNIF.

    Returns
    -------
    FramePart
    """
    rows, columns = window
    sky, unit = parts.sky, float(parts.sky.median_rms)

    def plane(values):
        return np.ascontiguousarray(np.asarray(values, np.float64)[:, columns] / unit, np.float32)

    data = np.array(np.asarray(parts.data[rows])[:, columns], np.float64)
    flags = np.ascontiguousarray(np.asarray(parts.mask[rows])[:, columns])
    unseen = (flags & UNSEEN) != 0
    with np.errstate(invalid="ignore", over="ignore"):
        image = data / unit - np.asarray(sky.background[rows], np.float64)[:, columns] / unit
    sources, rms = plane(parts.sources[rows]), plane(sky.rms[rows])
    wide = np.zeros_like(rms)
    if sky.wide_light is not None:
        wide = plane(sky.wide_light[rows])
        sources = sources if sky.in_background else sources - wide
    significance = np.asarray(parts.significance[rows])[:, columns]
    found = find_sources(significance, sources, rms, flags, threshold=lowest, fwhm=psf.fwhm)
    return FramePart(
        data=data, image=np.where(unseen, 0, image).astype(np.float32), wide=np.where(unseen, 0, wide),
        sources=np.where(unseen, 0, np.nan_to_num(sources)), rms=rms, flags=flags, found=found, unit=unit,
        step=float(quantisation_step(data, unseen)), psf=psf,
        weighted=parts.provenance.weight is not None,
    )  # fmt: skip


def mirrored_data(part: FramePart, sure):
    """The part with its noise mirrored at the sky level.

    Parameters
    ----------
    part : FramePart
    sure : float
        SIGNIF of the sources that stay. Those of less are mostly noise: were they left out of the
        clear sky, what remains of correlated noise would be too low, and too high when mirrored.

    Returns
    -------
    data : (ny, nx) float64
        In data units; pixels without data are unchanged.
    clear : (ny, nx) bool
        Sky and defects: there what is detected is false.
    """
    local = part.image - part.wide
    defect, on_defect = _defects(part, local)
    real = part.found[~on_defect & (part.found["signif"] > sure)]
    kept = _outlines(part, real)
    change = part.sources * np.where(kept, 2, 1) - 2 * local
    change[defect | part.unseen] = 0
    data = part.data + part.unit * change.astype(np.float64)
    if part.step:
        good = ~part.unseen
        data[good] = np.rint(data[good] / part.step) * part.step
    reach = max(CLEARANCE * part.psf.fwhm, 1.5)
    bright = (part.sources > OUTER_LIGHT * part.rms) & kept & ~defect
    near = around(real["x"], real["y"], local.shape, reach) | bright
    return data, ~(near | part.unseen | grown((part.flags & SATURATED) != 0, reach))


def _defects(part, local):
    """Pixels of defects, and whether each detection is on one."""
    flagged = ((part.flags & ARTEFACT) != 0) & ((part.flags & SATURATED) == 0)
    sharp = sharper_than_stars(local / part.rms, part.psf.image, model_error=MODEL_ERROR)
    sharp &= ~part.unseen & ((part.flags & SATURATED) == 0)
    single = grown(sharp, 1.0)
    place = part.found["x"], part.found["y"]
    on_defect = inside(single if part.psf.fwhm < NARROW else single | flagged, *place)
    return flagged | single, on_defect


def _outlines(part, stars):
    """Pixels of the segments of the sources plane that hold one of the stars."""
    labels, _ = ndimage.label(part.sources > FAINTEST_KEPT * part.rms)
    ny, nx = labels.shape
    row = np.clip(np.rint(stars["y"]).astype(int), 0, ny - 1)
    column = np.clip(np.rint(stars["x"]).astype(int), 0, nx - 1)
    held = np.unique(labels[row, column])
    return np.isin(labels, held[held > 0])


def count_false(part: FramePart, separate, card, threshold):
    """Count the false detections in the mirrored noise of a part.

    Parameters
    ----------
    part : FramePart
    separate : callable
        ``separate(data, mask=, maps=)`` gives a `~bgrem.Separation`.
    card : `~bgrem.inference.ModelCard`
    threshold : float
        Of the list, in SIGNIF.

    Returns
    -------
    false : FalseDetections or None
        None if neither the frame nor the card gives numbers.
    reason : str
        Why the numbers are those of the card; empty where they are the frame's.
    """
    lowest = lowest_threshold(card, threshold)
    data, clear = mirrored_data(part, _sure(card, threshold))
    area = np.count_nonzero(clear) / 1e6
    if area < LEAST_CLEAR:
        return false_of_card(card), f"{area:.3f} Mpix of sky between the sources are too few"
    seen = separate(data, mask=part.unseen, maps=("significance",), **part.noise)
    unit = float(seen.sky.median_rms)
    found = find_sources(
        np.asarray(seen.significance), np.asarray(seen.sources) / unit, seen.rms / unit, seen.mask,
        threshold=lowest, fwhm=part.psf.fwhm,
    )  # fmt: skip
    found = found[inside(clear, found["x"], found["y"])]
    curve = _fitted_curve(np.sort(found["signif"]), area, lowest, card)
    if curve is None:
        return None, f"{len(found)} false detections are too few for a curve, and the card has none"
    false = FalseDetections(*curve, counted=len(found), clear=area)
    return _with_ratio(false, part), ""


def _sure(card, threshold):
    known = card.calibration
    return known.threshold_for(SURE_RATE) if known is not None else threshold


def false_of_card(card):
    """The card's false detections, `FalseDetections`; None where it has none. No detection is known to be real."""
    known = card.calibration
    if known is None:
        return None
    return FalseDetections(np.array(known.threshold), np.array(known.false_alarms))


def _fitted_curve(signif, area, lowest, card):
    r"""SIGNIF and false detections per Mpix above it, from those counted.

    The card's curve C gives the shape, :math:`F(s) = e^a C(s - \delta)`. The most probable a and
    :math:`\delta` are taken, with a Poisson likelihood and normal priors. Without a card the tail is
    exponential.
    """
    if card.calibration is None:
        if len(signif) < LEAST_COUNTED:
            return None
        nodes = lowest + np.linspace(0, 20, 41)
        return nodes, len(signif) / area * np.exp(-(nodes - lowest) / (signif.mean() - lowest))
    nodes, logs = np.array(card.calibration.threshold), np.log(card.calibration.false_alarms)
    edges = np.append(lowest + np.arange(0, 12, 0.25), np.inf)
    counts, _ = np.histogram(signif, edges)
    shifts, scales = np.linspace(-4, 4, 161), np.linspace(-2, 2, 81)
    above = np.exp(_line(edges[:-1] - shifts[:, None], nodes, logs))
    expected = area * (above - np.append(above[:, 1:], np.zeros((len(shifts), 1)), axis=1))
    # The logarithm of the posterior of each shift (rows) and scale (columns).
    fit = (counts * np.log(expected)).sum(axis=1)[:, None] + counts.sum() * scales
    fit -= expected.sum(axis=1)[:, None] * np.exp(scales)
    fit -= 0.5 * (shifts[:, None] / SHIFT_SIGMA) ** 2 + 0.5 * (scales / SCALE_SIGMA) ** 2
    shift, scale = np.unravel_index(np.argmax(fit), fit.shape)
    return nodes + shifts[shift], np.exp(logs + scales[scale])


def _with_ratio(false, part):
    """The false detections, with the ratio of all to false ones of the part."""
    seen = ~part.unseen
    found = part.found[inside(seen, part.found["x"], part.found["y"])]
    signif = np.sort(found["signif"])
    if len(signif) == 0:
        return false
    nodes = np.arange(signif[0], signif[-1] + NODE_STEP, NODE_STEP)
    # Within half of the clearance of a source, a quarter of its area, a detection is the source.
    whole = np.count_nonzero(seen) / 1e6
    of_false = (whole - 0.25 * (whole - false.clear)) * _density(false, nodes)
    real = _real_density(signif, nodes, np.interp(signif, nodes, of_false))
    ratio = np.maximum.accumulate(1 + real / of_false)
    return replace(false, ratio_signif=nodes, ratio=ratio)


def _density(false, signif):
    """False detections per Mpix and unit of SIGNIF."""
    half = NODE_STEP / 2
    falling = false.above(signif - half) - false.above(signif + half)
    return np.maximum(falling / NODE_STEP, 1e-12)


def _real_density(signif, nodes, of_false):
    r"""Density of the real detections in SIGNIF, at nodes.

    All detections are a mixture of the false ones, whose density f is known, and real ones with the density
    :math:`r(s) = \sum_i p_i K(s - s_i)`, in which :math:`p_i = r / (r + f)` at each detection. Both are found by
    iteration (expectation maximisation; Dempster et al. 1977, J. R. Stat. Soc. B 39, 1). K is a Gaussian.
    """
    width = max(LEAST_KERNEL, 1.06 * signif.std() * len(signif) ** -0.2)
    some = signif[:: max(1, len(signif) // MOST_IN_MIXTURE)]
    false = of_false[:: max(1, len(signif) // MOST_IN_MIXTURE)]
    each = len(signif) / len(some)

    def kernel(at):
        # Reflected at the lowest SIGNIF, below which nothing is known.
        distances = at[:, None] - some, at[:, None] + some - 2 * signif[0]
        sums = sum(np.exp(-0.5 * (distance / width) ** 2) for distance in distances)
        return sums / (np.sqrt(2 * np.pi) * width)

    here, chance = each * kernel(some), np.full(len(some), 0.5)
    for _ in range(MIXTURE_ROUNDS):
        real = here @ chance
        chance = real / (real + false)
    return each * kernel(nodes) @ chance


def _line(at, nodes, values):
    """Linear between the nodes, and beyond them with the slope of the last quarter of them."""
    at = np.asarray(at, np.float64)
    value = np.interp(at, nodes, values)
    few = max(1, len(nodes) // 4)
    low = (values[few] - values[0]) / (nodes[few] - nodes[0])
    high = (values[-1] - values[-1 - few]) / (nodes[-1] - nodes[-1 - few])
    value = value + low * np.minimum(at - nodes[0], 0) + high * np.maximum(at - nodes[-1], 0)
    return value
