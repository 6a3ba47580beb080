"""Measurements on the whole frame that one tile cannot give: seeing, noise correlation, quantisation.

A sharp pixel is a star where the seeing is 1.5 pixels and a defect where it is 4: the network takes
these numbers with each tile. The same code measures them in training and in use, so that the network
learns their reliability.
"""

from dataclasses import dataclass

import numpy as np

from bgrem.arrays.filters import maximum_filter
from bgrem.arrays.statistics import FWHM_PER_SIGMA, median_and_deviation
from bgrem.detection.trailed import StarTrails, star_trails
from bgrem.detection.widths import APERTURE, SAMPLED_STARS, shared_width, star_widths, stellar_width
from bgrem.masks.filling import filled

__all__ = ["FRAME_NAMES", "SUREST_FIRST", "Frame", "measure_frame"]

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
LOWEST_ENTRIES = np.array([-1.5, 0.0, -0.25, -0.25, 0.0, -1.7, -0.7, -1.4], np.float32)
HIGHEST_ENTRIES = np.array([1.6, 1.0, 1.95, 1.95, 2.0, 1.8, 2.4, 1.1], np.float32)
TYPICAL_FWHM = 3.0  # px: the origin of log2_fwhm, and what is assumed when nothing was measured
CORRELATION_UNIT = 2.0  # brings the entries of the correlation to order one
SAMPLED_BLOCK = 512  # px: side of the sampled blocks
MOST_BLOCKS = 9  # at most this many blocks are looked at: about 2 Mpix
STAR_REACH = 12  # px: half width of a star's cut-out; holds 1.5 FWHM of the widest seeing
WIDEST_STAR = 9.0  # px: light that fills the cut-out evenly appears 9.6 px wide
# The brightest unsaturated peaks of each block are enough: for the FWHM, and to recognise trails.
MOST_STARS, MOST_TRAILS = 300, 150
BRIGHT_STAR = 15.0  # sky rms: peaks whose width is measured
# Where they are too few, fainter ones, and those of the image in squares of 2 and 4 pixels, in which wide stars
# stand out: peaks above FAINT of its rms.
FAINT, SQUARES = 8.0, (1, 2, 4)
# In squares particles become star-like, and widths are less precise.
IN_SQUARES = {"sharpest": 1.4, "alike": 0.25}
# The area of a square of n pixels adds 0.88 (n^2 - 1) to the square of an equivalent width: 4 ln 2 / (2 pi) 2
AREA_OF_SQUARE = 4 * np.log(2) / np.pi
# Where the FWHM is from.
SUREST_FIRST = ("given", "stars", "faint stars", "noise", "assumed")
# Linear or cubic resampling to n times as many pixels along an axis makes the noise that of a Gaussian kernel of n / 1.1
# pixels FWHM (n = 1.3 to 4). Stars of 1.5 to 4 pixels before are 1.7 to 4.5 times as wide as it: this many are assumed.
# Only a width within FROM_NOISE, in pixels, is better than none.
STARS_PER_KERNEL, FROM_NOISE = 2.5, (3.0, 10.0)
# A step adds its square over 12 to the variance: at a quarter of the rms, half a percent.
# Whether there is a finer one, or none, hardly changes what the network is given.
NOTICEABLE_STEP = 0.25


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
    trails : StarTrails or None
        What the stars are, if the exposure drew them out.
    fwhm_from : str
        Where the FWHM is from, of `SUREST_FIRST`: "given", measured on bright "stars" or on "faint stars", estimated
        from the correlation of the "noise", or "assumed" where it is unknown.
    """

    fwhm: float
    correlation_x: float
    correlation_y: float
    quantisation: float
    bright_fraction: float
    faint_fraction: float
    crowding: float
    trails: StarTrails | None = None
    fwhm_from: str = "assumed"

    @property
    def fwhm_or_typical(self):
        """The FWHM in pixels, 3 where it is unknown."""
        return self.fwhm if np.isfinite(self.fwhm) else TYPICAL_FWHM

    @property
    def measured_fwhm(self):
        """The FWHM in pixels, nan where it is unknown or a rough number from the noise."""
        return np.nan if self.fwhm_from == "noise" else self.fwhm

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
    tallies, blocks = [], []
    for rows, columns in _blocks(x.shape):
        block = np.asarray(x[rows, columns], np.float32)
        good = np.isfinite(block)
        if mask is not None:
            good &= ~np.asarray(mask[rows, columns], bool)
        block = block if good.all() else filled(block, ~good)
        tallies.append(_tally(block, good, _peaks(block)))
        blocks.append((block, good))
    pixels, bright, faint, crowd, variance, *products = np.sum(tallies, axis=0)
    pixels = max(pixels, 1.0)
    x1, y1, x2, y2 = (float(product / max(variance, 1e-9)) for product in products)
    width, origin = (float(fwhm), "given") if fwhm else _seeing(blocks)
    if origin == "assumed":
        width = width_from_noise((x1 + y1) / 2, (x2 + y2) / 2)
        origin = "noise" if np.isfinite(width) else origin
    return Frame(
        fwhm=width,
        fwhm_from=origin,
        correlation_x=x1,
        correlation_y=y1,
        quantisation=float(step or 0.0),
        bright_fraction=float(bright / pixels),
        faint_fraction=float(faint / pixels),
        crowding=float(crowd / pixels * 1e6),
        trails=_trails(blocks),
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
    """Sums over blocks: pixels, bright, faint, peaks, variance, products with the pixels 1 and 2 further on."""
    quiet = good & (np.abs(block) < 2.5)
    sky = np.where(quiet, block, np.float32(0))
    sky = np.where(quiet, sky - sky.sum() / max(quiet.sum(), 1), np.float32(0))
    variance = float((sky.astype(np.float64) ** 2).sum()) / max(quiet.sum(), 1)
    return np.array(
        [
            good.sum(),
            (good & (block > 4)).sum(),
            (good & (block < -4)).sum(),
            len(peaks[0]),
            variance * quiet.sum(),
            *(_product(*each, lag) for lag in (1, 2) for each in ((sky.T, quiet.T), (sky, quiet))),
        ]
    )


def _product(sky, quiet, lag):
    """Sum over pixels of the product with the pixel some rows further on."""
    both = quiet[lag:] & quiet[:-lag]
    return float((sky[lag:] * sky[:-lag]).sum()) / max(both.sum(), 1) * quiet.sum()


def width_from_noise(next_pixel, second_pixel):
    """A rough FWHM of the stars in a resampled image from the correlations of its noise; nan where they give none.

    Noise that a Gaussian kernel of a deviation s made of white noise has a correlation of exp(-1 / 4 s^2) with the next
    pixel. That of nebulae and crowds falls more slowly: the second pixel shows it.
    """
    if not 0 < next_pixel < 1 or second_pixel > next_pixel**2:
        return np.nan
    kernel = FWHM_PER_SIGMA * np.sqrt(-0.25 / np.log(next_pixel))
    width = STARS_PER_KERNEL * float(kernel)
    return width if FROM_NOISE[0] < width < FROM_NOISE[1] else np.nan


def _seeing(blocks):
    """FWHM of the stars in pairs of a block and its good pixels, nan where none is found, and where it is from."""
    widths, whole = _widths_in(blocks, BRIGHT_STAR)
    if np.count_nonzero(whole) >= SAMPLED_STARS:
        widths = widths[whole]  # a star whose core is bad is filled too wide
    fwhm = stellar_width(widths)
    if np.isfinite(fwhm):
        return fwhm, "stars"
    for side in SQUARES:
        widths, _ = _widths_in([_in_squares(*block, side) for block in blocks], FAINT)
        fwhm = shared_width(widths) if side == 1 else side * shared_width(widths, **IN_SQUARES)
        if np.isfinite(fwhm):
            return float(np.sqrt(max(fwhm**2 - AREA_OF_SQUARE * (side**2 - 1), 1))), "faint stars"
    return np.nan, "assumed"


def _in_squares(block, good, side):
    """Means over squares of pixels, in units of their noise, and which squares are good."""
    if side == 1:
        return block, good
    ny, nx = (n // side for n in block.shape)
    squares = block[: ny * side, : nx * side].reshape(ny, side, nx, side)
    means = squares.mean(axis=(1, 3), dtype=np.float64).astype(np.float32)
    whole = good[: ny * side, : nx * side].reshape(ny, side, nx, side).all(axis=(1, 3))
    if whole.sum() < 2:
        return np.zeros_like(means), whole
    level, noise = median_and_deviation(means[whole])
    return (means - np.float32(level)) / np.float32(max(noise, 1e-6)), whole


def _widths_in(blocks, height):
    """Widths of the star-like peaks above a height of some blocks, and whether all their pixels are good."""
    found = [_star_widths(block, good, height) for block, good in blocks]
    return tuple(np.concatenate(values) for values in zip(*found, strict=True))


def _without_lines(block):
    """A block less the medians of its columns and rows, in halves: bad columns are no trails."""
    for axis in (0, 1):
        halves = np.array_split(block, 2, axis)
        medians = (np.median(half, axis, keepdims=True) for half in halves)
        rest = [half - median for half, median in zip(halves, medians, strict=True)]
        block = np.concatenate(rest, axis)
    return block


def _star_widths(block, good, height):
    """Equivalent widths in pixels of the star-like peaks of one block, and whether all their pixels are good.

    float64 and bool of shape (n,).
    """
    places = _around(*_bright_peaks(block, height))
    width, round_enough = star_widths(block[places].astype(np.float64))
    offsets = np.arange(-STAR_REACH, STAR_REACH + 1)
    inside = np.hypot(offsets, offsets[:, None]) < APERTURE * width[:, None, None]
    whole = (good[places] | ~inside).all(axis=(1, 2))
    kept = round_enough & (width < WIDEST_STAR)
    return width[kept], whole[kept]


def _bright_peaks(block, height):
    """Rows and columns of the highest peaks above a height that are far enough from the edges."""
    rows, columns = _peaks(block)
    ny, nx = block.shape
    inside = (
        (rows >= STAR_REACH)
        & (rows < ny - STAR_REACH)
        & (columns >= STAR_REACH)
        & (columns < nx - STAR_REACH)
    )
    bright = inside & (block[rows, columns] > height)
    rows, columns = rows[bright], columns[bright]
    chosen = np.argsort(block[rows, columns])[::-1][:MOST_STARS]
    return rows[chosen], columns[chosen]


def _around(rows, columns):
    """Index of the pixels around some places, (n, k, k) each."""
    offsets = np.arange(-STAR_REACH, STAR_REACH + 1)
    return rows[:, None, None] + offsets[:, None], columns[:, None, None] + offsets


def _trails(blocks):
    """Star trails of pairs of a block and its good pixels, None where there are none."""
    images = [block for block, _ in blocks]
    # Most frames have none, and bad columns that look like trails are looked for only where something does.
    if star_trails(*_brightest(images)) is None:
        return None
    return star_trails(*_brightest([_without_lines(image) for image in images]))


def _brightest(images):
    """Places (n, 2) and surroundings (n, k, k) of the brightest peaks of some blocks."""
    places, cutouts = [], []
    for number, image in enumerate(images):
        rows, columns = (one[:MOST_TRAILS] for one in _bright_peaks(image, BRIGHT_STAR))
        # Places in different blocks are no neighbours.
        places.append(np.stack([rows, columns], axis=1) + 10 * SAMPLED_BLOCK * number)
        cutouts.append(image[_around(rows, columns)].astype(np.float64))
    return np.concatenate(places), np.concatenate(cutouts)
