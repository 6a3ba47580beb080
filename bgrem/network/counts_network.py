"""The network of counts maps: expected counts of the sources and of the background.

It has two scales. The first sees blocks of 4 x 4 pixels and returns the background as the prior times
normalised convolutions of the counts over it, in which it weights the blocks, as the sky network does
(`bgrem.network.sky_network`). The second is an attention U-Net on the pixels that is given the likelihood
ratio of a point source above this background. Its sources are means of the counts over kernels of several
widths, each with a positive weight that the network chooses in each pixel: they are never negative, and
grow with the counts.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from bgrem.network.poisson_filters import GaussianMeans, LikelihoodFilter, correlated
from bgrem.network.unet import AttentionGate, Block

__all__ = [
    "COUNTS_CHANNELS",
    "COUNTS_FRAME",
    "COUNTS_PLANES",
    "CountsNetwork",
    "CountsNetworkConfig",
]

COUNTS_PLANES = ("counts", "prior", "seen")
COUNTS_CHANNELS = ("sources", "background", "variance", "significance")
COUNTS_FRAME = ("log_counts", "log_fwhm", "has_psf", "has_exposure", "has_template", "rate")
COARSE_SIDE = 4  # px
COARSE_SCALES = (1.0, 2.5, 6.0, 15.0)  # blocks: standard deviations of the means of the first scale
LARGEST_CORRECTION = 0.7  # of the logarithm of the background
LEAST_EXPECTED = 1e-6  # counts: a limit of safety
KNEE_SNR = 5.0  # from here on a S/N counts as its logarithm
TRUSTED_PHOTONS = 10.0  # in the area of the PSF, of which a S/N counts half in the significance
CANDIDATES = 6  # the counts, their means over the PSF and over four Gaussians
SMALL_COUNTS = (
    0.375  # Anscombe's (1948, Biometrika 35, 246) constant, for the square root of counts
)


@dataclass(frozen=True, kw_only=True)
class CountsNetworkConfig:
    """Size of a network of counts maps.

    Attributes
    ----------
    coarse : tuple of int
        Channels of each level of the first scale.
    fine : tuple of int
        Channels of each level of the second scale, from half of the map's resolution on.
    embedding : int
        Size of the embedding of the frame vector.
    """

    coarse: tuple[int, ...] = (32, 48, 64)
    fine: tuple[int, ...] = (32, 48, 72, 96)
    embedding: int = 64


class _Body(nn.Module):
    """An attention U-Net on planes; bands of one field exchange what they see at each level but the first."""

    def __init__(self, widths, embedding):
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.gates = nn.ModuleList(AttentionGate(width) for width in widths[:-1])
        self.encoder = nn.ModuleList(
            Block(width, 2 if level else 1, embedding) for level, width in enumerate(widths)
        )
        self.decoder = nn.ModuleList(Block(width, 1, 0) for width in widths[:-1])
        self.shared = nn.ModuleList(nn.Conv2d(width, width, 1) for width in widths[1:])
        for layer in self.shared:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, h, embedded, of_field):
        skipped = []
        for level, block in enumerate(self.encoder):
            h = block(h, embedded)
            if level:
                h = h + self.shared[level - 1](of_field(h))
            if level < len(self.down):
                skipped.append(h)
                h = self.down[level](h)
        for level in reversed(range(len(self.down))):
            h = functional.interpolate(self.up[level](h), scale_factor=2.0, mode="nearest")
            h = h + self.gates[level](skipped[level], h)
            h = self.decoder[level](h, embedded)
        return h


class CountsNetwork(nn.Module):
    """From a counts map to the expected counts of its sources and background.

    Parameters
    ----------
    config : CountsNetworkConfig, optional
    """

    multiple = 32  # px, of the sides of a map

    def __init__(self, config=None):
        super().__init__()
        config = config or CountsNetworkConfig()
        self.config = config
        width = config.embedding
        self.embed = nn.Sequential(
            nn.Linear(len(COUNTS_FRAME) + 1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        scales = len(COARSE_SCALES)
        self.coarse_stem = nn.Conv2d(2 * scales + 4, config.coarse[0], 3, padding=1)
        self.coarse = _Body(config.coarse, width)
        self.coarse_head = nn.Conv2d(config.coarse[0], scales + 2, 1)
        self.means = GaussianMeans()
        self.stem = nn.Conv2d(13, config.fine[0], 4, stride=2, padding=1)
        self.fine = _Body(config.fine, width)
        self.head = nn.Conv2d(config.fine[0], 4 * (CANDIDATES + 4), 1)
        self.trust = nn.Linear(width, 1)
        self._initialise()

    def _initialise(self):
        for layer in (self.coarse_head, self.head):
            nn.init.normal_(layer.weight, std=1e-2)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.trust.weight)
        nn.init.constant_(self.trust.bias, 0.5)
        start = torch.tensor([-4.0] * (CANDIDATES + 1) + [0.0, 0.0, -6.0])
        with torch.no_grad():
            self.head.bias.copy_(start.repeat_interleave(4))

    def forward(self, planes, kernel, frame):
        """Run the network on the bands of one field.

        Parameters
        ----------
        planes : Tensor, (k, 3, y, x) float32
            Of each band those of `COUNTS_PLANES`: counts, expected counts of a background of the right shape and
            any level, and 1 where the map is seen. The first two are 0 elsewhere.
        kernel : Tensor, (k, 1, 31, 31) float32
            Images of the PSF, with sum 1.
        frame : Tensor, (k, 6) float32
            `COUNTS_FRAME`.

        Returns
        -------
        Tensor, (k, 4, y, x) float32
            `COUNTS_CHANNELS`. The significance, the same in all bands, is the logit that a source is centred near a
            pixel plus w k sign(z) ln(1 + abs(z) / k), with z the S/N of the likelihood filter of all bands over the
            background, k = `KNEE_SNR`, and w = B / (B + `TRUSTED_PHOTONS`), B the photons that the background gives in
            the area of the PSF.
        """
        parts = self.channels(planes, kernel, frame, bands=len(planes))
        sources, background, variance, centre, _ = parts
        # The logit knows what sources look like, the S/N over the final background how bright they are. On the
        # Galactic centre the logit alone ranks worse than the likelihood ratio; where few photons are expected
        # in the area of the PSF, the S/N is far from Gaussian, and the logit ranks better.
        filters = LikelihoodFilter(kernel, 10 ** frame[:, 0])
        excess, noise = filters.statistic(planes[:, :1], background)
        snr = excess.sum(0, keepdim=True) / torch.sqrt(noise.sum(0, keepdim=True))
        inside = (filters.area[:, None, None, None] * background).sum(0, keepdim=True)
        trust = inside / (inside + TRUSTED_PHOTONS)
        significance = centre + trust * KNEE_SNR * _compressed(snr / KNEE_SNR)
        return torch.cat([sources, background, variance, significance], 1)

    def channels(self, planes, kernel, frame, *, bands):
        """The channels that `forward` concatenates, and the background of the first scale.

        ``planes`` are those of n fields with ``bands`` bands each: (n bands, 3, y, x).
        """

        def of_field(h):
            """Mean of the bands of each field, for each of them."""
            if torch.onnx.is_in_onnx_export():
                return h.mean(0, keepdim=True).expand_as(h)
            mean = h.unflatten(0, (-1, bands)).mean(1, keepdim=True)
            return mean.expand(-1, bands, -1, -1, -1).flatten(0, 1)

        # As a tensor: in a graph, the number of bands is not known.
        number = torch.ones_like(frame[:, 0]).sum() if torch.onnx.is_in_onnx_export() else bands

        counts, prior, seen = planes.split(1, dim=1)
        area = 1 / (kernel**2).sum((1, 2, 3))
        embedded = self.embed(torch.cat([frame, torch.log10(area)[:, None]], 1))
        first = self._background(counts, prior, seen, embedded, of_field)
        background = first.detach()
        filters = LikelihoodFilter(kernel, 10 ** frame[:, 0])
        excess, variance = filters.statistic(counts, background)
        snr = excess / torch.sqrt(variance)
        joint = of_field(excess) / torch.sqrt(of_field(variance) / number)
        means = self.means(counts)
        planes = self._planes(counts, background, prior, seen, means, snr, joint, area)
        with torch.autocast(planes.device.type, torch.bfloat16, enabled=self.training):
            h = functional.relu(self.stem(planes))
            folded = self.head(self.fine(h, embedded, of_field))
        out = functional.pixel_shuffle(folded.float(), 2)
        weights = functional.softplus(out[:, : CANDIDATES + 1])
        # Rounding of Fourier transforms gives negative numbers.
        smooth = functional.relu(correlated(counts, kernel))
        light = torch.cat([counts, smooth, means, background], 1)
        sources = seen * ((weights * light).sum(1, keepdim=True) + LEAST_EXPECTED)
        change, log_fano, centre = out[:, CANDIDATES + 1 :].split(1, dim=1)
        background = first * torch.exp(LARGEST_CORRECTION * torch.tanh(change))
        log_variance = torch.log(sources.detach() + LEAST_EXPECTED) + log_fano.clamp(-12, 12)
        # The wings of a bright source have a S/N, too: its logarithm is easily outweighed there.
        ranked = KNEE_SNR * _compressed(joint / KNEE_SNR)
        centre = of_field(centre) + of_field(self.trust(embedded)[:, :, None, None]) * ranked
        return sources, background, torch.exp(log_variance), centre, first

    def _background(self, counts, prior, seen, embedded, of_field):
        """The background of the first scale, expected counts (n, 1, y, x)."""
        size = COARSE_SIDE**2
        n, t = (size * functional.avg_pool2d(x, COARSE_SIDE) for x in (counts, prior))
        m = functional.avg_pool2d(seen, COARSE_SIDE)
        means_n, means_t = _block_means(n), _block_means(t)
        areas = torch.tensor([4 * torch.pi * s * s for s in COARSE_SCALES], device=n.device)
        areas = areas[None, :, None, None]
        ratios = torch.log((areas * means_n + 0.5) / (areas * means_t + 0.5))
        planes = [
            ratios, torch.log10(areas * means_t + 0.1), _root(n) - _root(t),
            torch.log((n + 0.5) / (t + 0.5)), torch.log10(t + 0.01), m,
        ]  # fmt: skip
        with torch.autocast(n.device.type, torch.bfloat16, enabled=self.training):
            h = functional.relu(self.coarse_stem(torch.cat(planes, 1).clamp(-8, 8)))
            out = self.coarse_head(self.coarse(h, embedded, of_field))
        out = out.float()
        weight = torch.sigmoid(out[:, :1] + 2) + 1e-3
        shift = LARGEST_CORRECTION * torch.tanh(out[:, 1:2])
        shares = torch.softmax(out[:, 2:], 1)
        found = _block_means(weight * n) / (_block_means(weight * t) + LEAST_EXPECTED)
        ratio = (shares * found).sum(1, keepdim=True) * torch.exp(shift)
        spread = functional.interpolate(ratio, scale_factor=float(COARSE_SIDE), mode="bilinear")
        return prior * spread.clamp(min=1e-4)

    def _planes(self, counts, background, prior, seen, means, snr, joint, area):
        """Input planes of the second scale, (n, 13, y, x)."""
        expected = self.means(background)
        widths = torch.tensor(self.means.widths, device=counts.device)[None, :, None, None]
        # The sum of squares of a Gaussian of width w is 1 / (4 pi w^2).
        spread = torch.sqrt(expected.clamp(min=LEAST_EXPECTED) / (4 * torch.pi * widths**2))
        inside = area[:, None, None, None] * background
        return torch.cat(
            [
                _root(counts) - _root(background),
                torch.log(1 + counts),
                _compressed((means - expected) / spread),
                _compressed(snr),
                snr.clamp(-5, 12) / 4,
                joint.clamp(-5, 12) / 4,
                torch.log10(inside + 0.01),
                torch.log10(background + 1e-3),
                torch.log((background + 1e-3) / (prior + 1e-3)),
                seen,
            ],
            1,
        )


def _compressed(x):
    """sign(x) log(1 + |x|)."""
    return torch.sign(x) * torch.log(1 + torch.abs(x))


def _root(counts):
    """Twice the square root of counts, whose variance is nearly 1."""
    return 2 * torch.sqrt(counts + SMALL_COUNTS)


def _block_means(x):
    """Gaussian means of (n, 1, y, x) at each of `COARSE_SCALES`; the map is continued by zeros."""
    means = []
    for sigma in COARSE_SCALES:
        reach = int(3 * sigma + 0.5)
        offsets = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
        profile = torch.exp(-0.5 * (offsets / sigma) ** 2)
        profile = profile / profile.sum()
        rows = functional.conv2d(x, profile.view(1, 1, 1, -1), padding=(0, reach))
        means.append(functional.conv2d(rows, profile.view(1, 1, -1, 1), padding=(reach, 0)))
    return torch.cat(means, 1)
