"""Sources planted in a frame: how many are found, how bright they are measured, how large the errors are.

`calibrate_frame` combines this with the false detections of the frame's noise (`mirrored`).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.signal import fftconvolve
from scipy.spatial import cKDTree

from bgrem.arrays.stamps import add_stamp, moved_psf
from bgrem.catalogue.mirrored import (
    FalseDetections,
    FramePart,
    count_false,
    cut_part,
    false_of_card,
    lowest_threshold,
)
from bgrem.catalogue.source_measurement import Measuring, measure_sources
from bgrem.masks.areas import around, grown, inside
from bgrem.masks.flags import SATURATED
from bgrem.simulate.detector import add_light

__all__ = ["PLANTED_DTYPE", "FrameCalibration", "calibrate_frame", "plant_sources", "repeated_part"]

#: A planted source: place in pixels, flux in data units, S/N in the noise of the sky, half-light radius
#: before the seeing in pixels (0 for points), whether it lies within 2 FWHM of a source of the frame; the SIGNIF of
#: its detection (-inf: none), and what was measured, in data units.
PLANTED_DTYPE = np.dtype([
    ("x", float), ("y", float), ("flux", float), ("snr", float), ("radius", float), ("crowded", bool),
    ("signif", float), ("psf", float), ("auto", float),
])  # fmt: skip

PLANTED_PART = 0.02  # of the area, in circles of half a FWHM radius
CELL_SIDE = 4.5  # FWHM: cells with one planted source each
CROWDED = 2.0  # FWHM: from a planted source to a source of the frame
GALAXIES = 0.4  # of the planted sources
PLANTED_RADII = (0.3, 0.4, 0.55, 0.75, 1.0)  # FWHM: their half-light radii
FAINTER, FAINT_SNR, BRIGHT_SNR = 0.8, (0.7, 10.0), (10.0, 300.0)  # part of the sources, S/N
SCALE_OF_DISC = 1.678  # half-light radius of an exponential disc over its scale length
MANY_PIXELS = 4e6  # on larger frames the work is at most a quarter of the run
PART_OF_SMALL, PART_OF_LARGE = 0.35, 1 / 16  # of the pixels of a frame, for each of the two runs
MOST_PIXELS_AGAIN = 1280**2  # of such a part
SMALLEST_SIDE = 192  # px: of a part
BINS_OF_SNR = (0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0, 300.0)
BRIGHTNESSES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # rms: edges, of the sources plane
USUAL_COUNTS = 0.8  # slope of cumulative counts
COUNTED_ABOVE = 8.0  # S/N of the frame's sources whose number is measured
SURE_AFTER = 5.0  # independent pixels that weigh as much as the factor 1
LARGEST_FACTOR = 4.0


@dataclass(frozen=True, eq=False)
class FrameCalibration:
    """What a frame's own noise and planted sources show of its catalogue.

    Attributes
    ----------
    false : FalseDetections
        Against SIGNIF.
    planted : (n,) structured array
        `PLANTED_DTYPE`; empty where nothing was planted.
    brightness, factor : (k,) float64
        Sources in units of the local rms, ascending, and the factor of UNCERT there.
    area : float
        Mpix of the part in which sources were planted.
    reason : str
        Why numbers are those of the model's card; empty where all are the frame's.
    """

    false: FalseDetections
    planted: np.ndarray
    brightness: np.ndarray
    factor: np.ndarray
    area: float = 0.0
    reason: str = ""

    def threshold_for(self, rate):
        """SIGNIF above which there are `rate` false detections per Mpix of sky, float."""
        return self.false.threshold_for(rate)

    def p_real(self, signif):
        """Probability that detections are real, (n,) float64, rising with SIGNIF."""
        return self.false.p_real(signif)

    def uncertainty_scale(self, brightness):
        """Factor of UNCERT for sources in units of the local rms, of any shape, float64."""
        at = np.arcsinh(np.asarray(brightness, np.float64))
        return np.interp(at, np.arcsinh(self.brightness), self.factor)

    def completeness(self, threshold):
        """Part of the planted sources above a threshold of SIGNIF.

        Parameters
        ----------
        threshold : float

        Returns
        -------
        list of dict
            By `kind` ("points", "galaxies", "crowded": both, within 2 FWHM of a source) and S/N: `low` and `high`
            S/N, mean `snr` and `flux` in data units, `planted` and `found` numbers, `completeness`, its `error`
            (binomial; Wilson 1927, JASA 22, 209) and `fitted`, a logistic curve in the logarithm of S/N.
        """
        table, rows = self.planted, []
        for kind, chosen in _kinds(table):
            curve = _fitted_completeness(table["snr"][chosen], table["signif"][chosen] > threshold)
            for low, high, inside_bin in _bins(table["snr"], chosen):
                some = table[inside_bin]
                count, found = len(some), int(np.count_nonzero(some["signif"] > threshold))
                rows.append({
                    "kind": kind, "low": low, "high": high, "snr": float(some["snr"].mean()),
                    "flux": float(some["flux"].mean()), "planted": count, "found": found,
                    "completeness": found / count, "error": _binomial_error(found, count),
                    "fitted": float(curve(some["snr"]).mean()),
                })  # fmt: skip
        return rows

    def completeness_at(self, snr, threshold, *, galaxies=False):
        """The fitted completeness of points, or small galaxies, at S/N in the noise of the sky, (n,) float64."""
        chosen = (self.planted["radius"] > 0) == galaxies
        table = self.planted[chosen]
        return _fitted_completeness(table["snr"], table["signif"] > threshold)(np.asarray(snr))

    def flux_bias(self, threshold):
        """Median of measured over true flux of the planted sources above a SIGNIF.

        Returns
        -------
        list of dict
            By `kind` and true S/N (`low`, `high`): `found`; ratios `psf` and `auto`, and their `psf_error`, `auto_error`.
        """
        rows = []
        for kind, chosen in _kinds(self.planted):
            chosen = chosen & (self.planted["signif"] > threshold)
            for low, high, inside_bin in _bins(self.planted["snr"], chosen):
                some = self.planted[inside_bin]
                row = {"kind": kind, "low": low, "high": high, "found": len(some)}
                for name in ("psf", "auto"):
                    row[name], row[f"{name}_error"] = _median(some[name] / some["flux"])
                rows.append(row)
        return rows


def calibrate_frame(parts, *, separate, card, measuring: Measuring, seed=0):
    """Calibrate the catalogue of a frame on the frame.

    A third of the frame, in its middle, is separated twice: with its noise mirrored, and with sources planted. Of a
    frame above 4 Mpix it is a sixteenth, 1280 x 1280 pixels at most.

    Parameters
    ----------
    parts : `~bgrem.Separation`
        With significance.
    separate : callable
        ``separate(data, mask=, maps=)`` gives a `~bgrem.Separation`, by the same model and options. `data` is
        float64 of shape (ny, nx) in data units, `mask` bool, `maps` names of maps.
    card : `~bgrem.inference.ModelCard`
        Of the model.
    measuring : Measuring
        What `bgrem.catalogue.source_measurement.measure_sources` measured the frame with.
    seed : int
        Of the planted sources.

    Returns
    -------
    FrameCalibration or None
        None where neither the frame nor the card gives a number of false detections.
    """
    window = repeated_part(parts.sources.shape)
    lowest = lowest_threshold(card, measuring.threshold)
    part = cut_part(parts, window, measuring.psf, lowest)
    none = np.zeros(0, PLANTED_DTYPE)
    try:
        false, reason = count_false(part, separate, card, measuring.threshold)
        if false is None:
            return None
        planted, light = plant_sources(part, measuring, np.random.default_rng(seed))
        if not len(planted):
            reason = reason or "no place is left for planted sources"
            return FrameCalibration(false, none, np.zeros(1), np.ones(1), reason=reason)
        seen = _separated_with(part, light, measuring, separate, np.random.default_rng([seed, 1]))
    except ValueError as error:  # such as a part without a good pixel
        false = false_of_card(card)
        return false and FrameCalibration(false, none, np.zeros(1), np.ones(1), reason=str(error))
    planted = _recovered(planted, part, seen, measuring, lowest)
    brightness, factor = _scale_of_uncertainty(part, planted, light, seen)
    area = np.count_nonzero(~part.unseen) / 1e6
    for axis, seen_part in zip("yx", window, strict=True):
        planted[axis] += seen_part.start
    return FrameCalibration(false, planted, brightness, factor, area, reason)


def repeated_part(shape):
    """Rows and columns of the part that is separated again; of small frames all columns."""
    ny, nx = shape
    large = ny * nx > MANY_PIXELS
    pixels = min(ny * nx * (PART_OF_LARGE if large else PART_OF_SMALL), MOST_PIXELS_AGAIN)
    columns = min(nx, int(np.sqrt(pixels))) if large else nx
    rows = min(ny, max(SMALLEST_SIDE, int(pixels / columns)))
    top, left = (ny - rows) // 2, (nx - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def plant_sources(part: FramePart, measuring: Measuring, rng):
    """Draw points and small galaxies where a part of a frame has data.

    Parameters
    ----------
    part : FramePart
    measuring : Measuring
    rng : numpy.random.Generator

    Returns
    -------
    planted : (n,) structured array
        `PLANTED_DTYPE`, nothing measured.
    light : (ny, nx) float64
        Of all of them without photon noise, in units of the median sky rms.
    """
    psf = measuring.psf
    place = _places(part, psf.fwhm, rng)
    table = np.zeros(len(place), PLANTED_DTYPE)
    table["y"], table["x"] = place.T
    faint = rng.random(len(table)) < FAINTER
    low, high = (np.where(faint, *pair) for pair in zip(FAINT_SNR, BRIGHT_SNR, strict=True))
    table["snr"] = low * (high / low) ** rng.random(len(table))
    radii = psf.fwhm * rng.choice(PLANTED_RADII, len(table))
    table["radius"] = np.where(rng.random(len(table)) < GALAXIES, radii, 0.0)
    noise = float(measuring.factors.of_area(np.pi * psf.fwhm**2))
    profiles = {radius: _profile(psf, radius) for radius in np.unique(table["radius"])}
    light = np.zeros(part.image.shape)
    for source in table:
        stamp, left, bottom = moved_psf(profiles[source["radius"]], source["x"], source["y"])
        rms = part.rms[int(np.rint(source["y"])), int(np.rint(source["x"]))]
        flux = source["snr"] * noise * rms / np.sqrt(np.square(stamp).sum())
        source["flux"] = flux * part.unit
        add_stamp(light, flux * stamp, left, bottom)
    found = part.found[part.found["signif"] > measuring.threshold]
    near = around(found["x"], found["y"], light.shape, CROWDED * psf.fwhm)
    table["crowded"] = inside(near, table["x"], table["y"])
    table["signif"] = -np.inf
    return table, light


def _places(part, fwhm, rng):
    """Places (n, 2), in the order y, x, at least a third of a cell apart, off bad pixels and saturated stars."""
    cell = CELL_SIDE * fwhm
    counts = [int((n - 2 * fwhm) // cell) for n in part.image.shape]
    if min(counts) < 1:
        return np.zeros((0, 2))
    corner = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 2)
    place = fwhm + cell * (corner + rng.uniform(1 / 6, 5 / 6, corner.shape))
    bad = part.unseen | ((part.flags & SATURATED) != 0)
    place = place[~inside(grown(bad, fwhm), place[:, 1], place[:, 0])]
    most = int(PLANTED_PART * part.image.size / (np.pi * (fwhm / 2) ** 2)) + 1
    return rng.permutation(place)[:most]


def _profile(psf, radius):
    """Image of a point, or of an exponential disc of a half-light radius in pixels behind the PSF."""
    if radius == 0:
        return psf.image
    half = psf.image.shape[0] // 2 + int(np.ceil(3 * radius))
    grid = (np.arange(5 * (2 * half + 1)) - 5 * half - 2) / 5  # five to a pixel
    disc = np.exp(-SCALE_OF_DISC * np.hypot(*np.meshgrid(grid, grid)) / radius)
    disc = disc.reshape(2 * half + 1, 5, 2 * half + 1, 5).mean(axis=(1, 3))
    return fftconvolve(disc / disc.sum(), psf.image, mode="same")


def _separated_with(part, light, measuring, separate, rng):
    """The part with the planted light in it, separated."""
    gain = measuring.gain and measuring.gain * part.unit
    zero = np.zeros(light.shape, np.float32)
    added = add_light(zero, light, rng=rng, gain=gain, step=part.step / part.unit)
    data = part.data + part.unit * np.where(part.unseen, 0.0, added.astype(np.float64))
    return separate(data, mask=part.unseen, maps=("significance", "uncertainty"), **part.noise)


def _recovered(planted, part, seen, measuring, lowest):
    """The planted sources with what was measured, less those at the place of a source of the frame."""
    columns, _ = measure_sources(seen, threshold=lowest, measuring=measuring)
    place = np.column_stack([planted["y"], planted["x"]])
    radius = max(1.5, 0.5 * part.psf.fwhm)
    if len(columns["x"]):
        tree = cKDTree(np.column_stack([columns["y"], columns["x"]]))
        distance, nearest = tree.query(place)
        matched, nearest = distance <= radius, np.minimum(nearest, len(columns["x"]) - 1)
        planted["signif"] = np.where(matched, columns["signif"][nearest], -np.inf)
        for name in ("psf", "auto"):
            planted[name] = np.where(matched, columns[name][nearest], np.nan)
    before = part.found[part.found["signif"] > measuring.threshold]
    return planted[
        ~inside(around(before["x"], before["y"], part.image.shape, radius), *place.T[::-1])
    ]


def _kinds(table):
    galaxy, crowded = table["radius"] > 0, table["crowded"]
    return ("points", ~galaxy), ("galaxies", galaxy), ("crowded", crowded)


def _bins(snr, chosen):
    """The bins of S/N that hold a source: lower and upper edge, and which sources."""
    for low, high in pairwise(BINS_OF_SNR):
        inside_bin = chosen & (snr >= low) & (snr < high)
        if inside_bin.any():
            yield low, high, inside_bin


def _binomial_error(found, count):
    part = found / count
    return float(np.sqrt(part * (1 - part) / count + 1 / (4 * count**2)) / (1 + 1 / count))


def _median(ratio):
    """Median and its standard error, NaN of none."""
    ratio = ratio[np.isfinite(ratio)]
    if not len(ratio):
        return np.nan, np.nan
    low, middle, high = np.percentile(ratio, (16, 50, 84))
    return float(middle), float(1.2533 * (high - low) / 2 / np.sqrt(len(ratio)))


def _fitted_completeness(snr, found):
    """A function of S/N: the part that is found, c / (1 + (s / middle)**(-1 / width)).

    The most probable middle and width are taken, with priors; c is the mean of the bright sources.
    """
    most = (np.count_nonzero(found[snr > 10]) + 19.9) / (np.count_nonzero(snr > 10) + 20)
    middles, widths = np.log(np.geomspace(0.5, 50, 120)), np.geomspace(0.04, 0.6, 40)
    edges = np.log(np.geomspace(0.5, 500, 141))
    every, seen = (np.histogram(np.log(s), edges)[0][:, None, None] for s in (snr, snr[found]))
    depth = ((edges[1:] + edges[:-1])[:, None, None] / 2 - middles[:, None]) / widths
    part = np.clip(most / (1 + np.exp(-np.clip(depth, -50, 50))), 1e-4, 1 - 1e-4)
    fit = (seen * np.log(part) + (every - seen) * np.log(1 - part)).sum(axis=0)
    fit -= 0.5 * ((middles[:, None] - np.log(3)) / 1.0) ** 2
    fit -= 0.5 * (np.log(widths / 0.2) / 0.7) ** 2
    middle, width = np.unravel_index(np.argmax(fit), fit.shape)
    return lambda s: most / (1 + (s / np.exp(middles[middle])) ** (-1 / widths[width]))


def _scale_of_uncertainty(part, planted, light, seen):
    """Brightness and factor of UNCERT, from the sky and the planted sources on it."""
    clear = ~(
        part.unseen | around(part.found["x"], part.found["y"], light.shape, CROWDED * part.psf.fwhm)
    )
    clear &= part.sources < BRIGHTNESSES[0] * part.rms
    wide = part.wide.astype(np.float64) * part.unit
    error = np.asarray(seen.sources, np.float64) - wide - light * part.unit
    with np.errstate(divide="ignore", invalid="ignore"):
        pull = np.square(error / np.asarray(seen.uncertainty, np.float64))
        bright = (np.asarray(seen.sources, np.float64) - wide) / (part.rms * part.unit)
    clear &= np.isfinite(pull)
    weight = _weights(part, planted, light.shape)
    weight = np.where(clear, weight, 0)
    nodes, factors = [0.0], [1.0]  # the light of the empty sky, of undetected sources, is not known
    for low, high in zip(BRIGHTNESSES, (*BRIGHTNESSES[1:], np.inf), strict=True):
        chosen = (weight > 0) & (bright >= low) & (bright < high)
        if not chosen.any():
            continue
        w = weight[chosen]
        # Pixels within a FWHM are not independent.
        many = w.sum() ** 2 / np.square(w).sum() / max(part.psf.fwhm**2, 1.0)
        scale = np.log(max(np.average(pull[chosen], weights=w), 1e-3)) / 2
        nodes.append(np.average(bright[chosen], weights=w))
        factors.append(np.exp(scale * many / (many + SURE_AFTER)))
    factors = np.clip(factors, 1 / LARGEST_FACTOR, LARGEST_FACTOR)
    return np.array(nodes), factors


def _weights(part, planted, shape):
    """Weights of pixels, with which planted sources are as many, by S/N, as the frame's."""
    psf = part.psf
    alone = np.sqrt(np.square(psf.image).sum())
    row, column = (np.rint(part.found[axis]).astype(int) for axis in "yx")
    snr = part.image[row, column] / part.rms[row, column] / psf.image.max() * alone
    many = max(np.count_nonzero(snr > COUNTED_ABOVE), 1)
    # Numbers per e-fold of S/N: of the frame with a usual slope, and as planted.
    real = many * USUAL_COUNTS * (COUNTED_ABOVE / planted["snr"]) ** USUAL_COUNTS
    span = [np.log(high / low) for low, high in (FAINT_SNR, BRIGHT_SNR)]
    share = np.where(planted["snr"] < FAINT_SNR[1], FAINTER / span[0], (1 - FAINTER) / span[1])
    ratio = real / (len(planted) * share)
    weight = np.ones(shape, np.float64)
    place, pixels = (
        np.column_stack([planted["y"], planted["x"]]),
        np.indices(shape).reshape(2, -1).T,
    )
    distance, nearest = cKDTree(place).query(pixels, distance_upper_bound=2 * psf.fwhm)
    near = np.isfinite(distance)
    weight.ravel()[near] = ratio[nearest[near]]
    return weight
