"""Measurements on the whole frame that one tile cannot give: seeing, noise correlation, quantisation.

A sharp pixel is a star where the seeing is 1.5 pixels and a defect where it is 4: the network takes
these numbers with each tile. The same code measures them in training and in use, so that the network
learns their reliability.
"""

from dataclasses import dataclass

import numpy as np

from bgrem.arrays.filters import maximum_filter
from bgrem.arrays.statistics import half_sample_mode
from bgrem.masks.filling import filled

__all__ = ["FRAME_NAMES", "Frame", "equivalent_fwhm", "measure_frame"]

FRAME_NAMES = (
    "log2_fwhm",
    "fwhm_known",
    "correlation_x",
    "correlation_y",
    "quantisation",
    "bright_fraction",
    "faint_fraction",
    "crowding",
)
# What simulated training frames reach, per entry: a network extrapolates wildly beyond it.
LOWEST_ENTRIES = np.array([-1.1, 0.0, -0.25, -0.25, 0.0, -1.7, -0.7, -1.4], np.float32)
HIGHEST_ENTRIES = np.array([1.6, 1.0, 1.95, 1.95, 2.0, 1.8, 2.4, 1.1], np.float32)
TYPICAL_FWHM = 3.0  # px: the origin of log2_fwhm, and what is assumed when nothing was measured
CORRELATION_UNIT = 2.0  # brings the entries of the correlation to order one
SAMPLED_BLOCK = 512  # px: side of the sampled blocks
MOST_BLOCKS = 9  # at most this many blocks are looked at: about 2 Mpix
STAR_REACH = 12  # px: half width of a star's cut-out; holds 1.5 FWHM of the widest seeing
MOST_STARS = 300  # the brightest unsaturated ones of each block are enough
FEWEST_STARS = 3
APERTURE = 1.25  # FWHM: radius in which a star's width is measured
# A step adds its square over 12 to the variance: at a quarter of the rms, half a percent.
# Whether there is a finer one, or none, hardly changes what the network is given.
NOTICEABLE_STEP = 0.25
# An isolated pixel has an equivalent FWHM of 0.66; a star of 1.1 px FWHM, blurred by the
# pixel, has 1.5. What is sharper is a defect or a particle, as a rule.
SHARPEST = 1.4
# Reprojected frames sample coarsely what an atmosphere blurred, without a pixel's blur. Their stars
# are sharper, but all alike: the densest half of at least SAMPLED_STARS round objects spans less than
# ALIKE e-folds in width, all of them wider than hot pixels that leak into a neighbour.
SHARPEST_SAMPLED = 0.95
ALIKE = 0.2
SAMPLED_STARS = 20


@dataclass(frozen=True)
class Frame:
    """Numbers that describe a whole frame.

    Attributes
    ----------
    fwhm : float
        Seeing: FWHM in pixels of the Gaussian that has the stars' noise-equivalent area;
        nan when unknown.
    correlation_x, correlation_y : float
        Correlation of the noise with that of the next pixel along a row and along a column.
    quantisation : float
        Step between possible data values in units of the sky's rms; 0 when none is seen.
    bright_fraction, faint_fraction : float
        Fractions of the pixels above +4 and below -4 times the sky's rms.
    crowding : float
        Peaks above 5 times the sky's rms per Mpix.
    """

    fwhm: float
    correlation_x: float
    correlation_y: float
    quantisation: float
    bright_fraction: float
    faint_fraction: float
    crowding: float

    def vector(self):
        """The numbers as a network takes them in training, (k,) float32: `FRAME_NAMES`.

        All are of order one, and none lies outside `LOWEST_ENTRIES` to `HIGHEST_ENTRIES`.
        """
        return np.clip(self.entries(), LOWEST_ENTRIES, HIGHEST_ENTRIES)

    def entries(self):
        """The numbers before they are limited, (k,) float32."""
        known = bool(np.isfinite(self.fwhm))
        return np.array(
            [
                np.log2(self.fwhm / TYPICAL_FWHM) if known else 0.0,
                float(known),
                CORRELATION_UNIT * self.correlation_x,
                CORRELATION_UNIT * self.correlation_y,
                np.log10(1.0 + (self.quantisation / NOTICEABLE_STEP) ** 2),
                (np.log10(self.bright_fraction + 1e-5) + 2.5) / 1.5,
                (np.log10(self.faint_fraction + 1e-5) + 4.0) / 1.5,
                (np.log10(self.crowding + 10.0) - 3.0) / 1.5,
            ],
            dtype=np.float32,
        )


def measure_frame(x, mask=None, *, step=None, fwhm=None):
    """Describe a frame.

    Parameters
    ----------
    x : ndarray, (ny, nx) float32
        ``(data - background) / rms``; only evenly spaced blocks of it are read.
    mask : ndarray, (ny, nx) bool, optional
        True where a pixel is bad.
    step : float, optional
        Step between possible data values in units of the sky's rms.
    fwhm : float, optional
        Seeing in pixels, when it is known better than from the stars of the frame.

    Returns
    -------
    Frame
    """
    tallies, widths, whole = [], [], []
    for rows, columns in _blocks(x.shape):
        block = np.asarray(x[rows, columns], np.float32)
        good = np.isfinite(block)
        if mask is not None:
            good &= ~np.asarray(mask[rows, columns], bool)
        block = block if good.all() else filled(block, ~good)
        peaks = _peaks(block)
        tallies.append(_tally(block, good, peaks))
        for measured, values in zip((widths, whole), _star_widths(block, good, peaks), strict=True):
            measured.append(values)
    widths, whole = np.concatenate(widths), np.concatenate(whole)
    if np.count_nonzero(whole) >= SAMPLED_STARS:
        widths = widths[whole]  # a star whose core is bad is filled too wide
    pixels, bright, faint, crowd, xx, xy, xn = np.sum(tallies, axis=0)
    pixels = max(pixels, 1.0)
    return Frame(
        fwhm=float(fwhm) if fwhm else stellar_width(widths),
        correlation_x=float(xx / max(xn, 1e-9)),
        correlation_y=float(xy / max(xn, 1e-9)),
        quantisation=float(step or 0.0),
        bright_fraction=float(bright / pixels),
        faint_fraction=float(faint / pixels),
        crowding=float(crowd / pixels * 1e6),
    )


def _blocks(shape):
    """Slices of evenly spaced blocks."""
    per_axis = int(np.sqrt(MOST_BLOCKS))
    starts = [
        np.unique(
            np.linspace(
                0, max(size - SAMPLED_BLOCK, 0), min(per_axis, -(-size // SAMPLED_BLOCK))
            ).astype(int)
        )
        for size in shape
    ]
    return [
        (slice(y, y + SAMPLED_BLOCK), slice(x, x + SAMPLED_BLOCK))
        for y in starts[0]
        for x in starts[1]
    ]


def _peaks(block):
    """Positions (rows, columns) of isolated maxima above 5 that are not plateaus (saturated)."""
    highest = maximum_filter(block, 3)
    peaks = (block == highest) & (block > 5.0)
    peaks[:-1] &= block[:-1] != block[1:]
    peaks[:, :-1] &= block[:, :-1] != block[:, 1:]
    return np.nonzero(peaks)


def _tally(block, good, peaks):
    """Counts that are summed over blocks: pixels, bright, faint, peaks, products of neighbours."""
    quiet = good & (np.abs(block) < 2.5)
    sky = np.where(quiet, block, np.float32(0))
    sky = np.where(quiet, sky - sky.sum() / max(quiet.sum(), 1), np.float32(0))
    both_x = quiet[:, 1:] & quiet[:, :-1]
    both_y = quiet[1:] & quiet[:-1]
    variance = float((sky.astype(np.float64) ** 2).sum()) / max(quiet.sum(), 1)
    return np.array(
        [
            good.sum(),
            (good & (block > 4)).sum(),
            (good & (block < -4)).sum(),
            len(peaks[0]),
            float((sky[:, 1:] * sky[:, :-1]).sum()) / max(both_x.sum(), 1) * quiet.sum(),
            float((sky[1:] * sky[:-1]).sum()) / max(both_y.sum(), 1) * quiet.sum(),
            variance * quiet.sum(),
        ]
    )


def _star_widths(block, good, peaks):
    """Equivalent widths in pixels of the star-like peaks of one block, and whether all their pixels are good.

    float64 and bool of shape (n,).
    """
    rows, columns = peaks
    ny, nx = block.shape
    inside = (
        (rows >= STAR_REACH)
        & (rows < ny - STAR_REACH)
        & (columns >= STAR_REACH)
        & (columns < nx - STAR_REACH)
    )
    bright = inside & (block[rows, columns] > 15.0)
    rows, columns = rows[bright], columns[bright]
    chosen = np.argsort(block[rows, columns])[::-1][:MOST_STARS]
    offsets = np.arange(-STAR_REACH, STAR_REACH + 1)
    places = (
        rows[chosen][:, None, None] + offsets[:, None],
        columns[chosen][:, None, None] + offsets,
    )
    width, round_enough = equivalent_widths(block[places].astype(np.float64))
    inside = np.hypot(offsets, offsets[:, None]) < APERTURE * width[:, None, None]
    whole = (good[places] | ~inside).all(axis=(1, 2))
    kept = round_enough & (width < 1.5 * STAR_REACH)
    return width[kept], whole[kept]


def equivalent_widths(cutouts):
    """FWHM of the Gaussian with each star's noise-equivalent area.

    A star's noise-equivalent area is ``(sum I)**2 / sum I**2`` (King 1983, PASP 95, 163, eq. 3)
    and a Gaussian's ``4 pi sigma**2``; it is well defined however coarse the sampling.
    Measured in an aperture of `APERTURE` FWHM, found by iteration.

    Parameters
    ----------
    cutouts : ndarray, (n, k, k) float64
        Images of stars on zero background, their brightest pixel in the middle.

    Returns
    -------
    width : ndarray, (n,) float64
        In pixels.
    round_enough : ndarray, (n,) bool
        False for streaks, blends and stars whose neighbour is brighter.
    """
    half = cutouts.shape[-1] // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    radius = np.full(len(cutouts), 2.5)
    r2 = (x**2 + y**2)[None]
    for _ in range(4):
        inside = r2 <= (np.maximum(radius, 1.5) ** 2)[:, None, None]
        light = np.where(inside, cutouts, 0.0)
        area = light.sum((1, 2)) ** 2 / np.maximum((light**2).sum((1, 2)), 1e-30)
        width = np.sqrt(area * 4 * np.log(2) / (2 * np.pi))
        radius = np.clip(APERTURE * width, 1.5, half)
    light = np.clip(light, 0.0, None)
    total = np.maximum(light.sum((1, 2)), 1e-30)
    mx, my = (light * x).sum((1, 2)) / total, (light * y).sum((1, 2)) / total
    xx = (light * x**2).sum((1, 2)) / total - mx**2
    yy = (light * y**2).sum((1, 2)) / total - my**2
    xy = (light * x * y).sum((1, 2)) / total - mx * my
    elongation = np.hypot(xx - yy, 2 * xy) / np.maximum(xx + yy, 1e-30)
    middle = cutouts[:, half, half]
    alone = np.where(inside, cutouts, -np.inf).max((1, 2)) <= middle
    return width, alone & (elongation < 0.35) & (np.hypot(mx, my) < 0.3 * width)


def stellar_width(widths):
    """The width at which most objects crowd: stars share one, galaxies and defects do not.

    The half-sample mode of the logarithms, without what is too sharp for stars.

    Parameters
    ----------
    widths : ndarray, (n,) float64
        Of round objects, in pixels.

    Returns
    -------
    float
        In pixels; nan with fewer than `FEWEST_STARS` objects.
    """
    stars = widths[widths > (SHARPEST_SAMPLED if _are_sampled(widths) else SHARPEST)]
    if len(stars) < FEWEST_STARS:
        return float("nan")
    return float(np.exp(half_sample_mode(np.log(stars))))


def _are_sampled(widths):
    """Whether most round objects are sharp stars: alike, unlike particles of all widths."""
    if len(widths) < SAMPLED_STARS:
        return False
    ordered = np.sort(np.log(widths))
    half = -(-ordered.size // 2)
    spans = ordered[half - 1 :] - ordered[: ordered.size - half + 1]
    start = int(np.argmin(spans))
    return bool(spans[start] < ALIKE and ordered[start] > np.log(SHARPEST_SAMPLED))


def equivalent_fwhm(stamps):
    """Median equivalent width of noiseless star images: what a frame with this PSF would show.

    Parameters
    ----------
    stamps : ndarray, (n, k, k)
        As `equivalent_widths` takes them.

    Returns
    -------
    float
        In pixels: FWHM of the Gaussian with the stars' noise-equivalent area.
    """
    width, _ = equivalent_widths(np.asarray(stamps, np.float64))
    return float(np.median(width))
