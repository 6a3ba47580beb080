"""The chance that a pixel is defective, from its values in several frames.

Each frame gives the distribution of its own values. See `Likelihoods`.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

__all__ = ["BINS", "LARGEST_HALF", "Likelihoods", "bin_of", "chances_of", "prior_of"]

BINS = 128
# Bins are even in asinh(value / LINEAR): linear in the noise, else even in the logarithm.
WIDTH_OF_BIN, LINEAR = 0.19, 0.7
LARGEST_HALF = 6e4  # sky rms, kept in half precision
SHARE_OF_ANYTHING = 1e-4  # of the values of a frame that follow no distribution
# Amplitudes of a defect are even in the logarithm; its value in one frame differs from the expected by SCATTER
# (standard deviation of the logarithm): temperatures differ, and some pixels blink.
AMPLITUDE_STEP, SCATTER = np.sqrt(2.0), 0.25
# Offsets of good pixels: those of the flat field and of the dark current.
OFFSETS = np.arange(-2.0, 2.01, 0.25)
LEAST_OFFSET = 0.1
FIRST_PRIOR, TURNS = 1e-4, 30
MOST_KEPT = 4  # tables of shifts in memory at once, of 8 MB


def _bins_of(values: np.ndarray) -> np.ndarray:
    place = np.arcsinh(values / LINEAR) / WIDTH_OF_BIN + BINS / 2
    return np.clip(np.floor(place), 0, BINS - 1)


def _table_of_bins() -> np.ndarray:
    """The bin of each number of half precision, by its bits; `BINS` for NaN."""
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    known = np.clip(np.nan_to_num(numbers), -LARGEST_HALF, LARGEST_HALF)
    return np.where(np.isnan(numbers), BINS, _bins_of(known)).astype(np.uint8)


_TABLE = _table_of_bins()


def bin_of(values: np.ndarray) -> np.ndarray:
    """The bin of each value, uint8 of their shape, from 0 to `BINS` - 1; `BINS` for NaN."""
    near = np.clip(values, -LARGEST_HALF, LARGEST_HALF).astype(np.float16)
    return _TABLE[near.view(np.uint16)]


def _middle_of_bins() -> np.ndarray:
    return LINEAR * np.sinh((np.arange(BINS) + 0.5 - BINS / 2) * WIDTH_OF_BIN)


def _moves(shift: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Where values go that are shifted by any of some amounts, (BINS, BINS): from a row to a column."""
    to = _bins_of(_middle_of_bins()[:, None] + shift).astype(np.int64)
    moves = np.zeros((BINS, BINS))
    np.add.at(moves, (np.arange(BINS)[:, None], to), np.broadcast_to(weight, to.shape))
    return moves


class Likelihoods:
    r"""How likely the values of a pixel are if it is good, and if it is defective.

    With :math:`f_i(z)` the distribution of the values of frame :math:`i` (among pixels whose neighbours are
    as bright), a good pixel with a small offset :math:`b` and a defective one of amplitude :math:`a` have

    .. math::

       L_0 = \sum_b w_b \prod_i f_i(z_i - b), \qquad
       L_1 = \sum_a w_a \prod_i \langle f_i(z_i - a\,g_i\,s) \rangle_s

    :math:`g_i` is 1, or how the light of a constant, or of a dark current, goes with the rms of the frames;
    :math:`s` is a log-normal scatter.

    Parameters
    ----------
    counts : sequence of `~numpy.ndarray`
        Histograms of each frame, (classes, BINS): of the values of `bin_of`.
    patterns : sequence of array_like
        Each of as many numbers :math:`g_i` as there are frames.
    least : float or sequence of float
        Lowest amplitude of a defect, in the unit of the values of each frame.
    offset : float
        Standard deviation of the offsets of good pixels, in the unit of the values.
    """

    def __init__(
        self, counts: Sequence[np.ndarray], patterns, least: float | Sequence[float], offset: float
    ) -> None:
        self._frames = [_smooth(count) for count in counts]
        self._patterns = [np.asarray(pattern, np.float64) for pattern in patterns]
        self._least = np.broadcast_to(np.asarray(least, np.float64), len(self._frames))
        self._offset = max(offset, LEAST_OFFSET)

    @cached_property
    def _good(self) -> list[np.ndarray]:
        """Logarithms of the probabilities, of each frame: (offsets, classes, BINS + 1)."""
        moves = [_moves(np.array([b]), np.ones(1)) for b in OFFSETS]
        return [_logarithms([frame @ move for move in moves]) for frame in self._frames]

    @cached_property
    def _defective(self) -> list[np.ndarray]:
        """The same of defects, of each frame: (patterns x amplitudes, classes, BINS + 1)."""
        deviations = np.linspace(-2.5, 2.5, 21)
        weight = np.exp(-0.5 * deviations**2)
        scatter, weight = np.exp(SCATTER * deviations), weight / weight.sum()
        octaves = np.arange(int(np.log(LARGEST_HALF / self._least.max()) / np.log(AMPLITUDE_STEP)))
        amplitudes = np.concatenate([sign * AMPLITUDE_STEP**octaves for sign in (1, -1)])
        kept: dict[float, list[np.ndarray]] = {}
        tables = []
        for i, frame in enumerate(self._frames):
            planes = []
            for pattern in self._patterns:
                unit = round(float(self._least[i] * pattern[i]), 4)
                if unit not in kept:
                    if len(kept) >= MOST_KEPT:
                        kept.clear()
                    kept[unit] = [_moves(a * unit * scatter, weight) for a in amplitudes]
                planes += [frame @ move for move in kept[unit]]
            tables.append(_logarithms(planes))
        return tables

    def log_ratio(self, bins: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """The logarithm of L1 / L0 of some pixels.

        Parameters
        ----------
        bins, classes : `~numpy.ndarray`
            Of the values of each frame and pixel, uint8 of shape (frames, n).

        Returns
        -------
        `~numpy.ndarray`
            float64 of shape (n,).
        """
        weight = -0.5 * (OFFSETS / self._offset) ** 2
        weight -= np.logaddexp.reduce(weight)
        good = np.zeros((len(OFFSETS), bins.shape[1])) + weight[:, None]
        defective = np.zeros((len(self._defective[0]), bins.shape[1]))
        for i, (one, other) in enumerate(zip(bins, classes, strict=True)):
            good += self._good[i][:, other, one]
            defective += self._defective[i][:, other, one]
        return (
            np.logaddexp.reduce(defective, axis=0)
            - np.log(len(defective))
            - np.logaddexp.reduce(good, axis=0)
        )


def _smooth(counts: np.ndarray) -> np.ndarray:
    """A histogram as probabilities, (classes, BINS); where nothing was counted, a little is expected."""
    counts = counts.astype(np.float64)
    wide = counts.copy()
    wide[:, 1:] += 0.5 * counts[:, :-1]
    wide[:, :-1] += 0.5 * counts[:, 1:]
    total = wide.sum(axis=1, keepdims=True)
    return (wide + 1 / BINS) / (total + 1)


def _logarithms(planes: list[np.ndarray]) -> np.ndarray:
    """Logarithms of probabilities with a share of anything, and 0 for unknown values."""
    whole = np.stack(planes)
    whole = (1 - SHARE_OF_ANYTHING) * whole + SHARE_OF_ANYTHING / BINS
    return np.concatenate([np.log(whole), np.zeros((*whole.shape[:2], 1))], axis=2).astype(
        np.float32
    )


def prior_of(log_ratios: np.ndarray, count: int) -> float:
    """The part of the pixels that is defective, from the ratios of those that may be.

    The fixed point of the mean chance (expectation maximisation; Dempster, Laird & Rubin 1977, J. R. Stat.
    Soc. B 39, 1). ``count`` is the number of all pixels.
    """
    prior = FIRST_PRIOR
    for _ in range(TURNS):
        prior = np.clip(chances_of(log_ratios, prior).sum() / max(count, 1), 1 / max(count, 2), 0.5)
    return float(prior)


def chances_of(log_ratios: np.ndarray, prior: float) -> np.ndarray:
    """The chance of a defect, by Bayes' theorem: prior L1 / (prior L1 + (1 - prior) L0).

    float64 of the shape of the logarithms of L1 / L0.
    """
    odds = log_ratios + np.log(prior) - np.log1p(-prior)
    return 1 / (1 + np.exp(-np.clip(odds, -700, 700)))
