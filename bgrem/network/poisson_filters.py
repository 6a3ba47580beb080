"""Filters of counts maps: the likelihood ratio of a point source, and Gaussian means of several widths."""

import math

import torch
from torch import nn
from torch.nn import functional

__all__ = ["CORRELATION", "KERNEL_SIDE", "GaussianMeans", "LikelihoodFilter", "correlated"]

KERNEL_SIDE = 31  # px: of the image of the PSF that the network is given
CORRELATION = "bgrem::Correlation"  # a node of a graph that is yet to be replaced
# The flux for which the filter is the best one is detected with this S/N.
DESIGN_SNR = 4.0
# Backgrounds in units of the map's mean counts for which kernels are made; others are between them.
LEVEL_STEPS = (10**-1.5, 10**-0.5, 10**0.5)
LARGEST_CONTRAST = 1e6  # of the source over the background: a limit of safety
LEAST_LEVEL = 1e-6  # counts a pixel: a limit of safety
SMOOTHING_SIGMA = 1.4  # px, of the means; wider ones are of summed pixels
COARSENINGS = (1, 2, 4)


class LikelihoodFilter:
    """The filter that detects a point source on a Poisson background.

    The logarithm of the likelihood ratio of a source of flux a against none is
    sum(n log(1 + a P / b)) - a (Ofek & Zackay 2018, AJ 155, 169). Its filter depends on a and b; a is the
    flux of a source of S/N `DESIGN_SNR`.

    Parameters
    ----------
    kernel : Tensor, (n, 1, KERNEL_SIDE, KERNEL_SIDE) float32
        Images of the PSF, with sum 1.
    mean : Tensor, (n,) float32
        Mean counts per pixel of the maps.
    """

    def __init__(self, kernel, mean):
        self.area = 1 / (kernel**2).sum((1, 2, 3))  # pixels, the noise-equivalent area of the PSF
        levels = (mean[:, None] * torch.tensor(LEVEL_STEPS, device=kernel.device)).clamp(
            min=LEAST_LEVEL
        )
        flux = _detectable_flux(levels * self.area[:, None])
        contrast = (flux / levels).clamp(max=LARGEST_CONTRAST)
        self._kernels = torch.log(1 + contrast[:, :, None, None] * kernel)
        self._mean = mean

    def statistic(self, counts, background):
        """The filtered counts above what the background gives, and the variance of this difference.

        Parameters
        ----------
        counts, background : Tensor, (n, 1, y, x) float32
            Counts, and expected counts of the background, 0 where nothing is seen.

        Returns
        -------
        excess, variance : Tensor, (n, 1, y, x) float32
        """
        share = self._shares(background)
        seen = correlated(counts - background, self._kernels)
        excess = (share * seen).sum(1, keepdim=True)
        squares = (self._kernels**2).sum((2, 3))[:, :, None, None]
        variance = background.clamp(min=LEAST_LEVEL) * (share * squares).sum(1, keepdim=True)
        return excess, variance

    def _shares(self, background):
        """Share of each kernel in a pixel, (n, levels, y, x): those of the two levels next to its background."""
        first, second = (math.log(level) for level in LEVEL_STEPS[:2])
        level = (background / self._mean.clamp(min=LEAST_LEVEL)[:, None, None, None]).clamp(
            min=LEVEL_STEPS[0], max=LEVEL_STEPS[-1]
        )
        place = (torch.log(level) - first) / (second - first)
        numbers = torch.arange(len(LEVEL_STEPS), dtype=place.dtype, device=place.device)
        return functional.relu(1 - (place - numbers[None, :, None, None]).abs())


def _detectable_flux(expected):
    """Counts of a source of S/N `DESIGN_SNR` over the expected counts in the area of the PSF."""
    q = DESIGN_SNR
    return 0.5 * (q * q + q * torch.sqrt(q * q + 4 * expected))


def correlated(x, kernels):
    """Correlate maps with kernels of their own.

    Parameters
    ----------
    x : Tensor, (n, 1, y, x) float32
    kernels : Tensor, (n, c, k, k) float32
        With k = `KERNEL_SIDE`.

    Returns
    -------
    Tensor, (n, c, y, x) float32
        The maps are continued by zeros. It has no gradient.
    """
    return _Correlation.apply(x, kernels, int(kernels.shape[1]))


class _Correlation(torch.autograd.Function):
    """`correlated`; in an ONNX graph a node of the type `CORRELATION`, which the export replaces."""

    @staticmethod
    def forward(ctx, x, kernels, number):
        k = kernels.shape[-1]
        # On a CPU a large kernel takes a tenth of the time as a product of Fourier transforms.
        shape = [side + k - 1 for side in x.shape[2:]]
        product = torch.fft.rfft2(x, s=shape) * torch.fft.rfft2(kernels, s=shape).conj()
        whole = torch.fft.irfft2(product, s=shape).roll((k // 2, k // 2), dims=(2, 3))
        return whole[:, :, : x.shape[2], : x.shape[3]].contiguous()

    @staticmethod
    def symbolic(g, x, kernels, number):
        found = g.op(CORRELATION, x, kernels)
        return found.setType(x.type().with_sizes([None, number, None, None]))


class GaussianMeans(nn.Module):
    """Gaussian means of maps, of standard deviations of 0.7, 1.4, 2.8 and 5.6 px."""

    #: Standard deviations in pixels.
    widths = (SMOOTHING_SIGMA / 2, *(SMOOTHING_SIGMA * factor for factor in COARSENINGS))

    def __init__(self):
        super().__init__()
        self.register_buffer("narrow", _profile(SMOOTHING_SIGMA / 2), persistent=False)
        self.register_buffer("wide", _profile(SMOOTHING_SIGMA), persistent=False)

    def forward(self, x):
        """(n, 1, y, x) -> (n, 4, y, x); the maps are continued by zeros."""
        means = [_blurred(x, self.narrow), _blurred(x, self.wide)]
        for factor in COARSENINGS[1:]:
            coarse = functional.avg_pool2d(x, factor)
            coarse = _blurred(coarse, self.wide)
            means.append(
                functional.interpolate(coarse, scale_factor=float(factor), mode="bilinear")
            )
        return torch.cat(means, 1)


def _profile(sigma):
    reach = math.ceil(3.2 * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    profile = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return profile / profile.sum()


def _blurred(x, profile):
    """Rows and columns of (n, 1, y, x) convolved with a profile; the maps are continued by zeros."""
    reach = len(profile) // 2
    rows = functional.conv2d(x, profile.view(1, 1, 1, -1), padding=(0, reach))
    return functional.conv2d(rows, profile.view(1, 1, -1, 1), padding=(reach, 0))
