"""The optimal linear filter for stars, above the local level and in units of the noise it leaves."""

import math

import torch
from torch.nn import functional

from bgrem.detection.frame import CORRELATION_UNIT, FRAME_NAMES, TYPICAL_FWHM

__all__ = [
    "StarFilter",
    "correlation_of",
    "filtered_noise",
    "fwhm_of",
    "local_level",
    "matched_filter",
    "matched_kernel",
    "separable",
    "spread_blocks",
]

# Where the frame vector holds the noise correlation, and how many times it.
CORRELATIONS = [FRAME_NAMES.index("correlation_x"), FRAME_NAMES.index("correlation_y")]
REACH = 12  # px: half width of the kernels, 3.3 sigma at 8.5 px FWHM
# The local level is found on averages of LEVEL_BLOCK x LEVEL_BLOCK pixels: a morphological opening
# by LEVEL_OPENING of them, wider than any star, refined by the mean of what deviates less than
# LEVEL_CLIP from it, both within LEVEL_SIGMA blocks.
LEVEL_BLOCK, LEVEL_OPENING, LEVEL_SIGMA, LEVEL_CLIP = 4, 9, 4.0, 1.0


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
        # The filter takes a level, which is smooth, to the level times the kernel's sum.
        gain = (self._kernel.sum(dim=1) ** 2)[:, None, None, None]
        level = spread_blocks(gain * local_level(x))
        return (matched_filter(x, self._kernel) - level) / self._noise[:, None, None, None]


def fwhm_of(frame):
    """FWHM of the stars in pixels, (n,), from frame vectors (n, k); a typical one where unknown."""
    return TYPICAL_FWHM * torch.exp(math.log(2.0) * frame[:, 0])


def correlation_of(frame):
    """Correlation of the noise of neighbours along x and y, (n, 2), from frame vectors (n, k)."""
    return frame[:, CORRELATIONS] / CORRELATION_UNIT


def matched_kernel(fwhm):
    """One dimension of the Gaussian that stands for a star, of unit squared sum.

    Parameters
    ----------
    fwhm : Tensor, (n,) float32
        In pixels.

    Returns
    -------
    Tensor, (n, 2 REACH + 1) float32
    """
    sigma = (fwhm / 2.3548)[:, None]
    offsets = torch.arange(-REACH, REACH + 1, dtype=torch.float32, device=fwhm.device)[None]
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return kernel / torch.sqrt((kernel**2).sum(dim=1, keepdim=True))


def matched_filter(x, kernel):
    """Signal-to-noise ratio of a star at each pixel, for white noise of unit deviation.

    The optimal linear filter is the point-spread function itself, over the root of its
    squared sum (Irwin 1985, MNRAS 214, 575); here a Gaussian stands for it.

    Parameters
    ----------
    x : Tensor, (n, 1, y, x) float32
    kernel : Tensor, (1, k) or (n, k) float32
        From `matched_kernel`.

    Returns
    -------
    Tensor, (n, 1, y, x) float32
    """
    # All tiles of one frame share a kernel; in training each has its own.
    groups = [x] if kernel.shape[0] == 1 else x.split(1)
    return torch.cat([separable(tiles, k) for tiles, k in zip(groups, kernel, strict=True)])


def local_level(x):
    """Level of what is wider than stars, on blocks of LEVEL_BLOCK pixels.

    A morphological opening (the top-hat transform takes it off; Serra 1982, Image Analysis and
    Mathematical Morphology) follows nebulae and halos and passes below stars, but lies below
    the mean of the noise; the mean of what is left near it brings it there.

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
    """Blocks of LEVEL_BLOCK x LEVEL_BLOCK pixels as pixels, by bilinear interpolation.

    Each pixel of a block lies between the block's centre and that of a neighbour, so that a
    convolution gives all of them, as channels; runtimes take half the time for it that they take
    for their own interpolation.

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
    """Gaussian mean of (n, 1, y, x) over what the image holds."""
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32, device=blocks.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(blocks, (reach, reach, reach, reach), mode="replicate")
    rows = functional.conv2d(padded, kernel.view(1, 1, 1, -1))
    return functional.conv2d(rows, kernel.view(1, 1, -1, 1))


def filtered_noise(fwhm, correlation):
    """Standard deviation of noise of unit deviation after `matched_filter`.

    The correlation at k pixels is taken to be that of noise smoothed by a Gaussian, c**(k**2)
    where that of neighbours is c; that of the filter's kernel at k is exp(-k**2 / 4 sigma**2), and
    the variance is the sum of their products.

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
    sigma = (fwhm / 2.3548)[:, None, None]
    k2 = torch.arange(-REACH, REACH + 1, dtype=torch.float32, device=fwhm.device) ** 2
    # Beyond these limits, which no frame reaches, the variance would not be positive.
    correlation = correlation.clamp(-0.3, 0.97)
    # An even power of a negative number is fine, but not for every runtime: signs are put apart.
    size = torch.abs(correlation)[:, :, None].clamp(min=1e-4) ** k2
    sign = torch.where((correlation < 0)[:, :, None] & (k2 % 2 == 1), -1.0, 1.0)
    variance = (sign * size * torch.exp(-0.25 * k2 / sigma**2)).sum(dim=2)
    return torch.sqrt(variance[:, 0] * variance[:, 1])


def separable(x, kernel):
    """Convolve rows and columns with one kernel.

    Parameters
    ----------
    x : Tensor, (n, 1, y, x) float32
    kernel : Tensor, (1, 2 REACH + 1) float32

    Returns
    -------
    Tensor, (n, 1, y, x) float32
        The image is continued by zeros.
    """
    rows = functional.conv2d(x, kernel.view(1, 1, 1, -1), padding=(0, REACH))
    return functional.conv2d(rows, kernel.view(1, 1, -1, 1), padding=(REACH, 0))
