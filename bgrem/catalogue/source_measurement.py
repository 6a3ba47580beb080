"""All sources of a frame, measured strip by strip."""

from dataclasses import dataclass, replace

import numpy as np
import sep
from numpy.lib.stride_tricks import sliding_window_view

from bgrem.arrays.statistics import FWHM_PER_SIGMA
from bgrem.catalogue.apertures import (
    NoiseFactors,
    auto_photometry,
    circle_fluxes,
    measure_noise_factors,
)
from bgrem.catalogue.detections import find_sources
from bgrem.catalogue.point_fluxes import fit_point_sources, without_points
from bgrem.catalogue.point_spread import FramePSF, measure_frame_psf
from bgrem.catalogue.shapes import find_segments, half_light_radii, shapes_of
from bgrem.masks.flags import ARTEFACT, SATURATED, UNSEEN

__all__ = [
    "APERTURES", "FLAG_BITS", "STRIP_PIXELS", "Measuring", "measure_sources", "prepare_measuring",
]  # fmt: skip

#: Radii of the circles of FLUX_APER, in FWHM.
APERTURES = (0.75, 1.0, 1.5)
#: Bits of FLAGS. The first five are those of SExtractor.
FLAG_BITS = {
    1: "neighbours have more than a tenth of the light in the circle of 1.5 FWHM",
    2: "separated from a neighbour with which it has one peak of SIGNIF, or one segment",
    4: "saturated pixels within 1 FWHM",
    8: "the circle of 1.5 FWHM is cut by the border of the image",
    16: "bad pixels, or pixels of an artefact, within 1 FWHM: FLUX_APER and FLUX_AUTO are scaled",
    32: "in wide light brighter than the rms of the sky",
}  # fmt: skip
NEIGHBOUR, BLEND, CORE, BORDER, BAD, WIDE = FLAG_BITS

STRIP_PIXELS = 8_000_000  # of a strip with its margins
MARGIN = 128  # px: rows above and below a strip that are seen, too
SAMPLE_SIDE = 1152  # px: PSF and noise are measured in the middle of the frame
AUTO_RADIUS = APERTURES[-1]  # FWHM: of the circle of FLUX_AUTO of a source that is a point
LEAST_SPREAD, SPREAD_SIGMA = 0.004, 2.5  # SPREAD_MODEL, and its errors, of what is no point
STAR_WIDTH = 0.002  # scatter of SPREAD_MODEL of bright stars
SHARP_FWHM = 2.5  # px: in narrower stars an artefact in the middle may be the star
NEIGHBOUR_LIGHT = 0.1  # part of the light


@dataclass(frozen=True, eq=False)
class Measuring:
    """What a frame is measured with.

    Attributes
    ----------
    threshold : float
        Least SIGNIF.
    gain : float or None
        Electrons per data unit; None leaves the photon noise of the sources out.
    psf : FramePSF
    factors : NoiseFactors
        With the level of empty places, above which sources are measured.
    unit : float
        Data units of the unit inside, the median rms of the sky.
    """

    threshold: float
    gain: float | None
    psf: FramePSF
    factors: NoiseFactors
    unit: float


class _Strip:
    """Planes of some rows and columns in units of the median rms, float32.

    ``local`` is the image above the local level and that of empty places, ``whole`` above the background and
    that of empty places. Planes that begin with ``seen`` are those of the image on which sources are detected.
    """

    def __init__(self, parts, rows, columns, unit, level=0.0, detected=None):
        seen = detected or parts

        def cut(values):
            return np.asarray(values[rows])[:, columns]

        self.flags = np.array(cut(parts.mask))
        image = (np.asarray(cut(parts.data), np.float64) - cut(parts.sky.background)) / unit
        image[(self.flags & UNSEEN) != 0] = 0
        self.whole = _plane(image - level)
        wide = parts.sky.wide_light
        held = wide is not None and not parts.sky.in_background
        self.wide = _plane(cut(wide) / unit) if held else np.zeros_like(self.whole)
        self.local = self.whole - self.wide
        self.rms = _plane(cut(parts.sky.rms) / unit)
        self.variance = np.square(self.rms)
        seen_unit = seen.sky.median_rms
        self.significance = np.ascontiguousarray(cut(seen.significance))
        self.seen_sources = _plane(np.asarray(cut(seen.sources), np.float64) / seen_unit)
        self.seen_rms, self.seen_flags = self.rms, self.flags
        if detected is not None:
            self.seen_rms = _plane(cut(seen.sky.rms) / seen_unit)
            self.seen_flags = np.array(cut(seen.mask))

    def sources(self, threshold, fwhm):
        """The sources above a SIGNIF, as of `find_sources`."""
        planes = (self.significance, self.seen_sources, self.seen_rms, self.seen_flags)
        return find_sources(*planes, threshold=threshold, fwhm=fwhm)

    def bad(self, found, fwhm):
        """Pixels that do not count: bad ones, and artefacts but in the middle of a sharp source."""
        artefact = (self.flags & ARTEFACT) != 0
        if fwhm < SHARP_FWHM and len(found):
            rows, columns = (np.rint(found[axis]).astype(int) for axis in ("y", "x"))
            for down, across in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)):
                inside = np.clip(rows + down, 0, len(artefact) - 1)
                artefact[inside, np.clip(columns + across, 0, artefact.shape[1] - 1)] = False
        return artefact | ((self.flags & UNSEEN) != 0)


def _plane(values):
    return np.ascontiguousarray(values, np.float32)


def measure_sources(
    parts, *, threshold, gain=None, detected=None, measuring=None, most_pixels=STRIP_PIXELS
):
    """Detect the sources of a frame and measure them.

    Parameters
    ----------
    parts : `~bgrem.Separation`
        With significance, unless `detected` has it.
    threshold : float
        Least SIGNIF.
    gain : float, optional
        Electrons per data unit.
    detected : `~bgrem.Separation`, optional
        Another image on the same pixels, on which the sources are detected.
    measuring : Measuring, optional
        What another part of the frame was measured with; the threshold is replaced. Default: measured.
    most_pixels : int
        That are measured at once: a strip with its margins has about as many, but at least 3 margins.

    Returns
    -------
    columns : dict of str to (n,) ndarray
        Places in pixels (0-based), fluxes in data units; see `bgrem.catalogue.table`.
    measuring : Measuring

    Raises
    ------
    ValueError
        If there is no significance.
    """
    if (detected or parts).significance is None:
        raise ValueError('a catalogue needs the map "significance", which was not asked for')
    if measuring is None:
        measuring = prepare_measuring(parts, threshold, gain, detected)
    measuring, unit = replace(measuring, threshold=threshold), measuring.unit
    ny, nx = parts.sources.shape
    height = max(MARGIN, most_pixels // nx - 2 * MARGIN)
    measured = []
    for first in range(0, ny, height):
        last = min(first + height, ny)
        rows = slice(max(0, first - MARGIN), min(ny, last + MARGIN))
        level = measuring.factors.level
        strip = _Strip(parts, rows, slice(None), unit, level, detected)
        columns = _measured(strip, measuring)
        columns["y"] = columns["y"] + rows.start
        row = columns.pop("row") + rows.start
        kept = (row >= first) & (row < last)
        measured.append({name: values[kept] for name, values in columns.items()})
    columns = {name: np.concatenate([one[name] for one in measured]) for name in measured[0]}
    for axis, size in (("y", ny), ("x", nx)):
        columns[axis] = np.clip(columns[axis], -0.5, size - 0.5)
    return columns, measuring


def prepare_measuring(parts, threshold, gain=None, detected=None):
    """Measure the PSF and the noise in the middle of a frame.

    Parameters
    ----------
    parts, threshold, gain, detected
        As for `measure_sources`.

    Returns
    -------
    Measuring
    """
    unit = float(parts.sky.median_rms)
    starts = [max(0, (n - SAMPLE_SIDE) // 2) for n in parts.sources.shape]
    part = (slice(start, start + SAMPLE_SIDE) for start in starts)
    strip = _Strip(parts, *part, unit, 0.0, detected)
    fwhm = _usable(parts.provenance.fwhm)
    found = strip.sources(threshold, fwhm)
    bad = strip.bad(found, fwhm)
    places = found["x"], found["y"]
    factors = measure_noise_factors(strip.local, strip.rms, bad, *places, fwhm)
    unfit = bad | ((strip.flags & SATURATED) != 0)
    local = strip.local - np.float32(factors.level)
    psf = measure_frame_psf(local, strip.rms, unfit, places, fwhm)
    return Measuring(threshold, gain, psf, factors, unit)


def _usable(fwhm, typical=3.0):
    return float(fwhm) if np.isfinite(fwhm) and fwhm > 0 else typical


def _measured(strip, measuring):
    """The columns of the sources of a strip."""
    psf, unit = measuring.psf, measuring.unit
    gain = np.inf if measuring.gain is None else measuring.gain * unit
    found = strip.sources(measuring.threshold, psf.fwhm)
    bad = strip.bad(found, psf.fwhm)
    fits = fit_point_sources(
        strip.local, strip.variance, ~bad, found["x"], found["y"], psf, gain=gain
    ).in_noise(measuring.factors.of_area(np.pi * psf.fwhm**2))
    segments = find_segments(strip.seen_sources, strip.seen_rms)
    shapes = shapes_of(segments, found["x"], found["y"], fits.flux, psf.fwhm / FWHM_PER_SIGMA)
    limit = LEAST_SPREAD + SPREAD_SIGMA * np.nan_to_num(fits.spread_error)
    resolved = (np.nan_to_num(fits.spread, nan=1.0) > limit) & (shapes.label > 0)
    x, y, place_error = _places(strip, bad, found, fits, shapes, resolved, psf)
    photometry = _photometry(strip, bad, (x, y), fits, shapes, segments, resolved, measuring)
    flags = _flags(strip, bad, found, (x, y), fits, shapes, photometry, psf)
    columns = {
        "row": np.rint(found["y"]).astype(int), "x": x, "y": y, "signif": found["signif"],
        "flags": flags, "spread": fits.spread, "spread_error": fits.spread_error,
        "class_star": _star_class(fits), "resolved": resolved,
        "a": shapes.a, "b": shapes.b, "theta": np.degrees(shapes.theta),
    }  # fmt: skip
    for name, (flux, error) in photometry.fluxes.items():
        columns[name], columns[f"{name}_error"] = flux * unit, error * unit
    columns["kron_radius"] = photometry.kron
    columns["half_light_radius"] = photometry.radius
    columns["fwhm"] = photometry.radius * psf.fwhm / psf.half_light_radius
    for axis in ("x", "y"):
        columns[f"{axis}_error"] = place_error
    return columns


def _places(strip, bad, found, fits, shapes, resolved, psf):
    """Places by the PSF, of resolved sources by a Gaussian window (SExtractor's XWIN_IMAGE), and their error."""
    x, y, error = fits.x.copy(), fits.y.copy(), fits.place_error.copy()
    if resolved.any():
        sigma = np.sqrt(shapes.a * shapes.b)[resolved]
        windowed = sep.winpos(strip.whole, x[resolved], y[resolved], sigma, mask=bad)
        near = np.hypot(windowed[0] - x[resolved], windowed[1] - y[resolved]) < psf.fwhm + sigma
        at = np.flatnonzero(resolved)[near]
        x[at], y[at] = windowed[0][near], windowed[1][near]
        # The error grows with the square of the width, at equal flux.
        error[at] *= np.square(np.maximum(sigma[near] * FWHM_PER_SIGMA / psf.fwhm, 1))
    lost = ~np.isfinite(x + y)
    x[lost], y[lost] = found["x"][lost], found["y"][lost]
    return x, y, error


@dataclass(frozen=True, eq=False)
class _Photometry:
    """Fluxes with their errors by name, in units of the rms, and radii in pixels."""

    fluxes: dict
    kron: np.ndarray
    radius: np.ndarray
    others: np.ndarray  # light of neighbours in the circle of AUTO


def _photometry(strip, bad, place, fits, shapes, segments, resolved, measuring):
    psf, factors = measuring.psf, measuring.factors
    fluxes = {}
    for k, width in enumerate(APERTURES, start=1):
        part = psf.light_within(width * psf.fwhm)
        flux, error = circle_fluxes(
            strip.local, strip.variance, bad, *place, width * psf.fwhm, factors
        )
        fluxes[f"aperture_{k}"] = flux / part, error / part
    alone = without_points(strip.local, bad, psf, fits, ~resolved)
    radius = AUTO_RADIUS * psf.fwhm
    part = psf.light_within(radius)
    rest, error = circle_fluxes(alone, strip.variance, bad, *place, radius, factors)
    own = np.where(resolved, 0, np.nan_to_num(fits.flux)) * psf.image_within(radius)
    auto, auto_error = (rest + own) / part, error / part
    others = fluxes[f"aperture_{len(APERTURES)}"][0] * part - rest - own
    # Where the fit sees too few pixels of a point, so does the circle.
    auto[~resolved & ~np.isfinite(fits.flux)] = np.nan
    kron = np.full(len(auto), np.nan)
    if resolved.any():
        x, y = (axis[resolved] for axis in place)
        whole = _plane(alone + strip.wide)
        found = auto_photometry(
            whole, strip.variance, bad, x, y, shapes.of(resolved), segments, factors
        )
        auto[resolved], auto_error[resolved], kron[resolved] = found
    fluxes["psf"] = fits.flux, fits.error
    fluxes["auto"] = auto, auto_error
    reach = np.maximum(np.where(resolved, np.nan_to_num(kron) * shapes.a, radius), radius)
    half = np.full(len(auto), np.nan)
    for image, chosen in ((strip.local, ~resolved), (strip.whole, resolved)):
        here, light = tuple(axis[chosen] for axis in place), np.nan_to_num(auto[chosen])
        half[chosen] = half_light_radii(
            image, bad, here, reach[chosen], light, segments, shapes.segment[chosen]
        )
    alike = ~resolved & (shapes.label == 0)  # light of neighbours would count
    half[alike] = np.where(np.isfinite(auto[alike]), psf.half_light_radius, np.nan)
    gain = np.inf if measuring.gain is None else measuring.gain * measuring.unit
    for name in fluxes.keys() - {"psf"}:  # whose error has the photons already
        flux, error = fluxes[name]
        fluxes[name] = flux, np.sqrt(error**2 + np.maximum(flux, 0) / gain)
    return _Photometry(fluxes, kron, half, others)


def _flags(strip, bad, found, place, fits, shapes, photometry, psf):
    """FLAGS of the sources."""
    ny, nx = strip.flags.shape
    x, y = place
    row, column = (np.clip(np.rint(v).astype(int), 0, n - 1) for v, n in ((y, ny), (x, nx)))
    flags = np.zeros(len(x), np.int16)
    auto = np.abs(np.nan_to_num(photometry.fluxes["auto"][0]))
    flags[photometry.others > NEIGHBOUR_LIGHT * auto] |= NEIGHBOUR
    in_segment = np.bincount(shapes.segment, minlength=1)[shapes.segment] > 1
    flags[found["blended"] | (in_segment & (shapes.segment > 0))] |= BLEND
    for bit, where in ((CORE, (strip.flags & SATURATED) != 0), (BAD, bad)):
        flags[_is_near(where, row, column, psf.fwhm)] |= bit
    reach = AUTO_RADIUS * psf.fwhm
    cut = (x < reach - 0.5) | (y < reach - 0.5) | (x > nx - 0.5 - reach) | (y > ny - 0.5 - reach)
    flags[cut] |= BORDER
    flags[(strip.wide > strip.rms)[row, column]] |= WIDE
    return flags


def _is_near(where, row, column, radius):
    """Whether a pixel of an area is within a radius of each pixel."""
    half = int(radius)
    disc = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1]) <= radius
    windows = sliding_window_view(np.pad(where, half), disc.shape)
    seen = [(windows[at] & disc).any() for at in zip(row, column, strict=True)]
    return np.array(seen, bool)


def _star_class(fits):
    """Chance, by SPREAD_MODEL and its error, that a source is a point: 1 for stars, 0 for galaxies."""
    from scipy.special import ndtr

    error = np.hypot(np.nan_to_num(fits.spread_error, nan=1.0), STAR_WIDTH)
    return ndtr((LEAST_SPREAD - np.nan_to_num(fits.spread)) / error)
