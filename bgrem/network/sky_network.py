"""The sky network: statistics of the blocks of a whole frame in, its sky out.

The network does not draw the sky. It states, for each cell of 2 x 2 blocks, how much of it is sky, by what
part of its spread its mean is off, and over which scale the cells around it are to be averaged. The sky is
a quadratic surface fitted with these weights plus normalised convolutions (Knutsson & Westin 1993, CVPR, 515)
of what the surface leaves. A sky of 0.01 rms comes from averaging, not from regression
(docs/experiments.rst).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

__all__ = ["INPUTS", "SkyNetwork", "SkyNetworkConfig"]

INPUTS = 8  # six statistics (bgrem.sky.blocks.PLANES), and the places along x and y
LARGEST_QUANTILE_PART = (
    4.0  # of the difference of a quantile and the mean: a mode lies beyond the median
)
LARGEST_SHIFT = 0.5  # of a cell's spread, that its mean may be off
LEAST_CELL_WEIGHT = 1e-4  # of a known cell
RIDGE = 1e-5  # of the normal equations of a fitted surface, whose weights add up to 1
# Deviations from the first surface, in sky rms, at which a cell's weight is halved, one fit after the other; of
# cells that are darker, twice as far.
FIRST_GUESS = (10.0, 3.0, 1.0, 0.4, 0.2)
# Cells over which what the first surface leaves is averaged for the network to see.
GUIDE_SCALES = (1.5, 4.0, 10.0)
# What brings the lower decile, the lower quartile and the median of white noise to its mean, in sky rms.
TO_THE_MEAN = (1.2816, 0.6745, 0.0)
PASSES = 2  # looks at a frame
FINEST_SCALE = 0.35  # cells: the average of a cell and hardly another
FIRST_FINEST_SHARE = -4.0  # of a cell itself, before the training, as a logit
LARGEST = 200.0  # in units of the noise: limit of the cells' means


@dataclass(frozen=True)
class SkyNetworkConfig:
    """Size of a sky network.

    Attributes
    ----------
    widths : tuple of int
        Channels of each level; the resolution halves from level to level.
    scales : tuple of float
        Standard deviations in cells of the Gaussians that average the cells.
    """

    widths: tuple[int, ...] = (40, 56, 80, 88, 80)
    scales: tuple[float, ...] = (0.7, 1.5, 3.5, 8.0, 18.0)


class _Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, h):
        return h + self.second(functional.relu(self.first(functional.relu(h))))


class SkyNetwork(nn.Module):
    """From block statistics to the sky.

    Input: (n, 8, by, bx) float32. The first five statistics of `bgrem.sky.blocks.PLANES` less the frame's
    level and over its noise (see `bgrem.sky.network_input.network_input`), the fraction of good pixels, and the
    places along x and y from -1 to 1. Both sides are multiples of 32; blocks outside the frame have no good
    pixel.

    Output: (n, 4, by / 2, bx / 2) float32 in the units of the input: background, rms, logarithm of the
    background's error, and the logit of the probability that there is wide light above 0.05 rms.

    Parameters
    ----------
    config : SkyNetworkConfig
    """

    def __init__(self, config=SkyNetworkConfig()):
        super().__init__()
        widths = config.widths
        self.scales = config.scales
        self.stem = nn.Conv2d(13, widths[0], 4, stride=2, padding=1)
        guides = 2 + len(GUIDE_SCALES) + 2 * (len(TO_THE_MEAN) + 1)
        self.guide = nn.Conv2d(guides, widths[0], 1)
        self.again = nn.Conv2d(guides + widths[0], widths[0], 1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.of_frame = nn.ModuleList(nn.Linear(2 * widths[-1], width) for width in widths[:-1])
        self.encoder = nn.ModuleList(_Block(width) for width in widths)
        self.decoder = nn.ModuleList(_Block(width) for width in widths[:-1])
        shares = len(self.scales) + 1
        self.parts = (1, 1, shares, 1, 1, shares, 1, 1)
        self.head = nn.Conv2d(widths[0], sum(self.parts), 1)
        self.quantiles = nn.Conv2d(widths[0], len(TO_THE_MEAN), 1)
        self.finest = nn.Conv2d(widths[0], 2, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        of_zeros = (self.guide, self.again, self.quantiles, self.finest)
        for values in (self.head.bias, *(v for layer in of_zeros for v in layer.parameters())):
            nn.init.zeros_(values)
        nn.init.constant_(self.finest.bias, FIRST_FINEST_SHARE)

    def forward(self, x):
        return self.passes(x)[-1]

    def passes(self, x):
        """The output after each look at the frame; what a look finds guides the next.

        Parameters
        ----------
        x : Tensor, (n, 8, by, bx) float32

        Returns
        -------
        list of Tensor, (n, 4, by / 2, bx / 2) float32
        """
        cells = _cells(x)
        level, weight = _first_surface(cells)
        outputs, seen = [], None
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.training):
            statistics = self.stem(_compressed(x))
        for _ in range(PASSES):
            guides = _guides(cells, level, weight)
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self.training):
                h = statistics.to(guides.dtype) + self.guide(guides).to(guides.dtype)
                if seen is not None:
                    h = h + self.again(torch.cat([guides, seen], 1)).to(guides.dtype)
                seen = self._features(h, cells.known)
            seen = seen.to(x.dtype)
            output, weight = self._sky(cells, seen)
            level = output[:, :1]
            outputs.append(output)
        return outputs

    def _features(self, h, known):
        """What is known of each cell, (n, w, by / 2, bx / 2)."""
        skipped = []
        for level, block in enumerate(self.encoder):
            h = block(h)
            if level < len(self.down):
                skipped.append(h)
                h = self.down[level](h)
                known = functional.avg_pool2d(known, 2)
        share = known / known.sum((2, 3), True).clamp(min=1e-6)
        mean = (share * h).sum((2, 3))
        deviation = (share * (h - mean[:, :, None, None]).abs()).sum((2, 3))
        frame = torch.cat([mean, deviation], 1)
        for level in reversed(range(len(self.down))):
            h = functional.interpolate(self.up[level](h), scale_factor=2.0, mode="bilinear")
            h = h + skipped[level] + self.of_frame[level](frame)[:, :, None, None]
            h = self.decoder[level](h)
        return h

    def _sky(self, cells, features):
        """The network's output, and the weights of the cells in its background."""
        heads = torch.split(self.head(features), self.parts, dim=1)
        weight, shift, shares, rms_weight, rms_shift, rms_shares, log_error, wide = heads
        finest = self.finest(features)
        parts = LARGEST_QUANTILE_PART * torch.tanh(self.quantiles(features) / LARGEST_QUANTILE_PART)
        mean = cells.mean + (parts * (cells.quantiles - cells.mean)).sum(1, True)
        mean = mean - LARGEST_SHIFT * torch.tanh(shift) * cells.spread
        weight = cells.known * (torch.sigmoid(weight + 1) + LEAST_CELL_WEIGHT)
        surface = _surface(mean, weight, cells.places)
        shares = torch.cat([finest[:, :1], shares], 1)
        background = surface + self._averaged(mean - surface, weight, shares)
        rms_weight = cells.known * (torch.sigmoid(rms_weight + 1) + LEAST_CELL_WEIGHT)
        log_rms = torch.log(cells.spread) + LARGEST_SHIFT * torch.tanh(rms_shift)
        level = (rms_weight * log_rms).sum((2, 3), True)
        level = level / rms_weight.sum((2, 3), True).clamp(min=1e-6)
        rms_shares = torch.cat([finest[:, 1:], rms_shares], 1)
        log_rms = level + self._averaged(log_rms - level, rms_weight, rms_shares)
        return torch.cat([background, log_rms.exp(), log_error - 2.0, wide], 1), weight

    def _averaged(self, rest, weight, shares):
        """Normalised convolutions at each scale, added by their shares; the last share is of 0."""
        shares = torch.softmax(shares, 1)
        total = torch.zeros_like(rest)
        for k, sigma in enumerate((FINEST_SCALE, *self.scales)):
            total = total + shares[:, k : k + 1] * _normalised(weight, rest, sigma)
        return total


def _asinh(x):
    """The inverse hyperbolic sine, as every engine can compute it."""
    size = x.abs()
    return torch.sign(x) * torch.log(size + torch.sqrt(size * size + 1))


class _Cells(NamedTuple):
    """Statistics of cells of 2 x 2 blocks, (n, k, by / 2, bx / 2) each."""

    known: torch.Tensor  # 1 where a block is good
    quantiles: torch.Tensor  # brought to the mean
    mean: torch.Tensor  # trimmed
    spread: torch.Tensor
    places: torch.Tensor


def _cells(x):
    """Means of the good blocks of each cell."""
    good = x[:, 5:6]
    part = functional.avg_pool2d(good, 2)
    statistics = functional.avg_pool2d(good * x[:, :5], 2) / part.clamp(min=1e-3)
    to_the_mean = torch.tensor(TO_THE_MEAN, dtype=x.dtype, device=x.device).view(1, -1, 1, 1)
    quantiles = (statistics[:, :3] + to_the_mean).clamp(-LARGEST, LARGEST)
    mean, spread = statistics[:, 3:4].clamp(-LARGEST, LARGEST), statistics[:, 4:5]
    spread = torch.where(part > 0, spread, torch.ones_like(spread)).clamp(0.05, 1e4)
    places = functional.avg_pool2d(x[:, 6:8], 2)
    return _Cells((part > 0).to(x.dtype), quantiles, mean, spread, places)


def _compressed(x):
    """Statistics of the blocks in ranges that a network sees well, (n, 13, by, bx)."""
    statistics = x[:, :4]
    return torch.cat(
        [
            _asinh(statistics),
            (4 * statistics).clamp(-8, 8) / 4,
            torch.log(x[:, 4:5].clamp(0.05, 1e4)),
            x[:, 5:],
            _asinh(statistics[:, 3:4]) ** 2 / 10,
        ],
        1,
    )


def _first_surface(cells):
    """A surface through the cells without light, and the weights of the cells in it."""
    weight = cells.known
    for width in FIRST_GUESS:
        rest = cells.mean - _surface(cells.mean, weight, cells.places)
        rest = torch.where(rest > 0, rest, 0.5 * rest) / width
        weight = cells.known / (1 + rest * rest)
    return _surface(cells.mean, weight, cells.places), weight


def _guides(cells, level, weight):
    """What a level leaves of each cell and of the cells around it, (n, 13, by / 2, bx / 2).

    And how the values of pixels are distributed around each cell and in the frame: faint sources raise
    the mean more than the quantiles.
    """
    rest = cells.known * (cells.mean - level)
    guides = [_asinh(10 * rest), weight]
    guides += [_asinh(20 * _normalised(weight, rest, sigma)) for sigma in GUIDE_SCALES]
    shape = torch.cat([cells.quantiles - cells.mean, torch.log(cells.spread)], 1)
    around = _normalised(weight, shape, GUIDE_SCALES[1])
    total = (weight * shape).sum((2, 3), True) / (weight.sum((2, 3), True) + 1e-5)
    guides += [_asinh(20 * around), _asinh(20 * total).expand_as(around)]
    return torch.cat(guides, 1)


def _normalised(weight, planes, sigma):
    """Normalised convolution of planes with a Gaussian; 0 far from any weight."""
    both = _blurred(torch.cat([weight * planes, weight], 1), sigma)
    return both[:, :-1] / (both[:, -1:] + 1e-5)


def _blurred(planes, sigma):
    """Planes averaged with a Gaussian, 0 outside, up to a factor."""
    down, across = (_gaussians(planes, axis, sigma) for axis in (2, 3))
    return down @ planes @ across


def _gaussians(planes, axis, sigma):
    """A Gaussian around each place along an axis, (places, places)."""
    places = torch.arange(planes.shape[axis], dtype=planes.dtype, device=planes.device)
    return torch.exp(-0.5 * ((places[:, None] - places) / sigma) ** 2)


def _surface(values, weight, places):
    """Weighted least-squares fit of a quadratic, in Legendre polynomials, at every cell."""
    x, y = places[:, :1], places[:, 1:]
    terms = torch.cat(
        [torch.ones_like(x), x, y, x * y, 1.5 * x * x - 0.5, 1.5 * y * y - 0.5], 1
    ).flatten(2)
    weight = weight.flatten(2)
    weight = weight / weight.sum(2, True).clamp(min=1e-6)
    matrix = (terms * weight) @ terms.transpose(1, 2)
    matrix = matrix + RIDGE * torch.eye(6, dtype=terms.dtype, device=terms.device)
    right = (terms * weight) @ values.flatten(2).transpose(1, 2)
    coefficients = _solved(matrix, right)
    return (coefficients.transpose(1, 2) @ terms).view_as(values)


def _solved(matrix, right):
    """Solution of a positive definite system by elimination, which every engine can run; (n, 6, 1)."""
    rows = torch.cat([matrix, right], 2)
    units = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    for k in range(matrix.shape[1]):
        column = rows[:, :, k : k + 1]
        pivot = rows[:, k : k + 1] / column[:, k : k + 1]
        rows = rows - (column - units[:, k : k + 1]) * pivot
    return rows[:, :, -1:]
