"""The optimal linear filter for stars, as S/N above the local level."""

import math

import torch
from torch.nn import functional

from bgrem.arrays.statistics import FWHM_PER_SIGMA
from bgrem.detection.frame import CORRELATION_UNIT, FRAME_NAMES, TYPICAL_FWHM

__all__ = [
    "StarFilter", "correlation_of", "filter_stars", "filtered_noise", "fwhm_of", "local_level",
    "matched_kernel", "separable", "spread_blocks",
]  # fmt: skip

# The entries of the frame vector that hold the noise correlation.
CORRELATION_ENTRIES = [FRAME_NAMES.index(f"correlation_{axis}") for axis in "xy"]
KERNEL_REACH = 12  # px: half width of the kernels, 3.3 sigma at 8.5 px FWHM
# The local level is measured on averages of LEVEL_BLOCK x LEVEL_BLOCK pixels (experiment 15): a
# morphological opening over LEVEL_OPENING blocks, wider than any star, plus a Gaussian mean of
# LEVEL_SIGMA blocks of the deviations from it, clipped at LEVEL_CLIP sky rms. The weights of a
# network depend on these numbers.
LEVEL_BLOCK, LEVEL_OPENING, LEVEL_SIGMA, LEVEL_CLIP = 4, 9, 4.0, 1.0
# Limits of safety, which no frame reaches: beyond them the filtered variance is not positive.
LOWEST_CORRELATION, HIGHEST_CORRELATION = -0.3, 0.97
LEAST_CORRELATION_SIZE = 1e-4  # a limit of safety for the power of 0


class StarFilter:
    """The matched filter of frames whose seeing and noise correlation are known.

    Parameters
    ----------
    frame : Tensor, (1, k) or (n, k) float32
        See `bgrem.detection.frame.Frame.vector`.
    """

    def __init__(self, frame):
        fwhm = fwhm_of(frame)
        self._kernel = matched_kernel(fwhm)
        self._noise = filtered_noise(fwhm, correlation_of(frame))

    def snr(self, x):
        """Signal-to-noise ratio of a star at each pixel of (n, 1, y, x), above the local level."""
        # The filter multiplies a smooth level by the sum of its kernel.
        gain = (self._kernel.sum(dim=1) ** 2)[:, None, None, None]
        level = spread_blocks(gain * local_level(x))
        return (filter_stars(x, self._kernel) - level) / self._noise[:, None, None, None]


def fwhm_of(frame):
    """FWHM of the stars in pixels, (n,), from frame vectors (n, k); `TYPICAL_FWHM` if unknown."""
    return TYPICAL_FWHM * torch.exp(math.log(2.0) * frame[:, 0])


def correlation_of(frame):
    """Correlation of the noise of neighbours along x and y, (n, 2), from frame vectors (n, k)."""
    return frame[:, CORRELATION_ENTRIES] / CORRELATION_UNIT


def matched_kernel(fwhm):
    """Profile along one axis of a Gaussian star, with unit sum of squares.

    Parameters
    ----------
    fwhm : Tensor, (n,) float32
        In pixels.

    Returns
    -------
    Tensor, (n, 2 KERNEL_REACH + 1) float32
    """
    sigma = (fwhm / FWHM_PER_SIGMA)[:, None]
    offsets = torch.arange(
        -KERNEL_REACH, KERNEL_REACH + 1, dtype=torch.float32, device=fwhm.device
    )[None]
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return kernel / torch.sqrt((kernel**2).sum(dim=1, keepdim=True))


def filter_stars(x, kernel):
    """Signal-to-noise ratio of a star at each pixel, for white noise of unit deviation.

    The optimal linear filter is the PSF divided by the root of its sum of squares (Irwin 1985,
    MNRAS 214, 575). The PSF is approximated by a Gaussian.

    Parameters
    ----------
    x : Tensor, (n, 1, y, x) float32
    kernel : Tensor, (1, k) or (n, k) float32
        From `matched_kernel`.

    Returns
    -------
    Tensor, (n, 1, y, x) float32
    """
    # All tiles of one frame share a kernel. In training each tile has its own.
    groups = [x] if kernel.shape[0] == 1 else x.split(1)
    return torch.cat([separable(tiles, k) for tiles, k in zip(groups, kernel, strict=True)])


def local_level(x):
    """Level of the light that is wider than stars, on blocks of LEVEL_BLOCK pixels.

    A morphological opening (the top-hat transform subtracts it; Serra 1982, Image Analysis and
    Mathematical Morphology) follows nebulae and halos and ignores stars, but is lower than the
    mean of the noise. The mean of the clipped deviations corrects that.

    Parameters
    ----------
    x : Tensor, (n, 1, y, x) float32
        Sides are multiples of LEVEL_BLOCK.

    Returns
    -------
    Tensor, (n, 1, y / LEVEL_BLOCK, x / LEVEL_BLOCK) float32
    """
    blocks = functional.avg_pool2d(x, LEVEL_BLOCK)
    lowest = -_highest(-blocks)
    opened = _smoothed(_highest(lowest), 0.5 * LEVEL_SIGMA)
    return opened + _smoothed((blocks - opened).clamp(-LEVEL_CLIP, LEVEL_CLIP), LEVEL_SIGMA)


def spread_blocks(blocks):
    """Interpolate blocks of LEVEL_BLOCK x LEVEL_BLOCK pixels to pixels, bilinearly.

    Each pixel of a block is between the block's centre and that of a neighbour, so one
    convolution gives all of them, as channels. Runtimes need half of the time of their own
    interpolation for it.

    Parameters
    ----------
    blocks : Tensor, (n, 1, y, x) float32

    Returns
    -------
    Tensor, (n, 1, LEVEL_BLOCK y, LEVEL_BLOCK x) float32
        Constant beyond the outermost centres.
    """
    at = (torch.arange(LEVEL_BLOCK, dtype=torch.float32, device=blocks.device) + 0.5) / LEVEL_BLOCK
    near = 1 - torch.abs(at[:, None] - 0.5 - torch.arange(-1, 2, device=blocks.device))
    near = near.clamp(min=0)
    kernel = (near[:, None, :, None] * near[None, :, None, :]).reshape(LEVEL_BLOCK**2, 1, 3, 3)
    padded = functional.pad(blocks, (1, 1, 1, 1), mode="replicate")
    return functional.pixel_shuffle(functional.conv2d(padded, kernel), LEVEL_BLOCK)


def _highest(blocks):
    """Running maximum of LEVEL_OPENING x LEVEL_OPENING blocks, rows first."""
    half = LEVEL_OPENING // 2
    rows = functional.max_pool2d(blocks, (1, LEVEL_OPENING), 1, (0, half))
    return functional.max_pool2d(rows, (LEVEL_OPENING, 1), 1, (half, 0))


def _smoothed(blocks, sigma):
    """Gaussian mean of (n, 1, y, x); the image is continued by its edge pixels."""
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32, device=blocks.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(blocks, (reach, reach, reach, reach), mode="replicate")
    rows = functional.conv2d(padded, kernel.view(1, 1, 1, -1))
    return functional.conv2d(rows, kernel.view(1, 1, -1, 1))


def filtered_noise(fwhm, correlation):
    """Standard deviation of noise of unit deviation after `filter_stars`.

    Noise that was smoothed by a Gaussian, with a correlation c of neighbours, has the correlation
    c**(k**2) at k pixels. The autocorrelation of the kernel at k is exp(-k**2 / 4 sigma**2). The
    variance along one axis is the sum of their products.

    Parameters
    ----------
    fwhm : Tensor, (n,) float32
        Of the filter, in pixels.
    correlation : Tensor, (n, 2) float32
        Of the noise of neighbours along x and y.

    Returns
    -------
    Tensor, (n,) float32
    """
    sigma = (fwhm / FWHM_PER_SIGMA)[:, None, None]
    k2 = torch.arange(-KERNEL_REACH, KERNEL_REACH + 1, dtype=torch.float32, device=fwhm.device) ** 2
    correlation = correlation.clamp(LOWEST_CORRELATION, HIGHEST_CORRELATION)
    # Not every runtime takes an even power of a negative number, so the sign is separate.
    size = torch.abs(correlation)[:, :, None].clamp(min=LEAST_CORRELATION_SIZE) ** k2
    sign = torch.where((correlation < 0)[:, :, None] & (k2 % 2 == 1), -1.0, 1.0)
    variance = (sign * size * torch.exp(-0.25 * k2 / sigma**2)).sum(dim=2)
    return torch.sqrt(variance[:, 0] * variance[:, 1])


def separable(x, kernel):
    """Convolve rows and columns with one kernel.

    Parameters
    ----------
    x : Tensor, (n, 1, y, x) float32
    kernel : Tensor, (1, 2 KERNEL_REACH + 1) float32

    Returns
    -------
    Tensor, (n, 1, y, x) float32
        The image is continued by zeros.
    """
    rows = functional.conv2d(x, kernel.view(1, 1, 1, -1), padding=(0, KERNEL_REACH))
    return functional.conv2d(rows, kernel.view(1, 1, -1, 1), padding=(KERNEL_REACH, 0))
