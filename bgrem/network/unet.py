"""The attention U-Net that estimates everything in an image except the sources.

An attention U-Net (Oktay et al. 2018, arXiv:1804.03999) on 2 x 2 pixels folded into channels. Its
inputs are the image, the noise rate of the diffusion, the vector that describes the whole frame
(`bgrem.detection.frame`), and the S/N of the matched filter above the local level, in units of the
filtered noise. The network starts from the classical optimum and does not have to learn it. Most
real frames have structure of tens of pixels after the sky is subtracted; without the local
level the filter would rank that structure.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from bgrem.detection.frame import FRAME_NAMES
from bgrem.network.star_filter import StarFilter

__all__ = ["CHANNELS", "AttentionUNet", "NetworkConfig"]

CHANNELS = ("residual", "log_variance", "artefact", "centre")
DECODED_PLANES = 6  # output of the decoder, from which the channels are computed
# The local noise, with the photon noise of a source x, is sqrt(1 + x / KNEE) in units of the sky
# rms. KNEE is the sky rms in electrons, some tens for most frames.
KNEE = 30.0
CENTRE_GROWTH = 2.0  # of a centre's logit, per e-fold of the brightness of its source


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Size of the network.

    Attributes
    ----------
    widths : tuple of int
        Channels per level. The first level has half of the image's resolution, each further level
        half of that of the level before.
    encoder, decoder : tuple of int
        Convolutions per level on the way down and up; 0 is a level without convolution.
    embedding : int
        Size of the embedding of rate and frame vector.
    """

    widths: tuple = (32, 48, 64, 96)
    encoder: tuple = (0, 1, 2, 2)
    decoder: tuple = (1, 1, 1)
    embedding: int = 64


class Block(nn.Module):
    """Residual block of one or two convolutions, the first modulated by the embedding.

    The fine levels have no modulation by scale and shift (FiLM; Perez et al. 2018,
    arXiv:1709.07871), because there it takes as much time as a convolution. The sum of a single
    convolution is rectified, not the convolution: runtimes do both in one pass over memory.
    """

    def __init__(self, width, convolutions, embedding):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1) if convolutions == 2 else None
        self.modulation = nn.Linear(embedding, 2 * width) if embedding else None

    def forward(self, h, embedded):
        """(n, width, y, x) -> (n, width, y, x)."""
        inner = self.first(h)
        if self.modulation is not None:
            scale, shift = self.modulation(embedded)[:, :, None, None].chunk(2, dim=1)
            inner = inner * (1 + scale) + shift
        if self.second is None:
            return functional.relu(h + inner)
        return h + self.second(functional.relu(inner))


class AttentionGate(nn.Module):
    """Additive attention on a skip connection (Oktay et al. 2018, eqs. 1 and 2)."""

    def __init__(self, width):
        super().__init__()
        self.skip = nn.Conv2d(width, width // 2, 1)
        self.gate = nn.Conv2d(width, width // 2, 1)
        self.weight = nn.Conv2d(width // 2, 1, 1)

    def forward(self, skip, gate):
        """(n, width, y, x) twice -> (n, width, y, x)."""
        return skip * torch.sigmoid(self.weight(functional.relu(self.skip(skip) + self.gate(gate))))


class AttentionUNet(nn.Module):
    """Estimate everything except the sources, from an image at noise rate r.

    Channels of the output, see `CHANNELS`: ``residual`` b in units of the sky's rms, with
    ``sources = x - r * b``; ``log_variance`` of the sources; ``artefact``, the logit that a pixel
    is a defect or was hit; ``centre``, the logit that a source is centred in a pixel.

    Parameters
    ----------
    config : NetworkConfig, optional
        Default: that of the optical model.
    """

    def __init__(self, config=None):
        super().__init__()
        config = config or NetworkConfig()
        self.config = config
        widths = config.widths
        self.embed = nn.Sequential(
            nn.Linear(8 + len(FRAME_NAMES), config.embedding),
            nn.ReLU(),
            nn.Linear(config.embedding, config.embedding),
            nn.ReLU(),
        )
        # A 3 x 3 convolution of 2 x 2 pixels folded into channels, without the folding.
        self.stem = nn.Conv2d(3, widths[0], 6, stride=2, padding=2)
        self.encoder = nn.ModuleList(
            self._block(level, count) for level, count in enumerate(config.encoder)
        )
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths)
        )
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.gates = nn.ModuleList(AttentionGate(width) for width in widths[1:-1])
        self.decoder = nn.ModuleList(
            self._block(level, count) for level, count in enumerate(config.decoder)
        )
        self.head = nn.Conv2d(widths[0], 4 * DECODED_PLANES, 1)
        # Weight of the matched filter in a centre's logit, from the embedding.
        self.trust = nn.Linear(config.embedding, 1)
        self._initialise()

    def _block(self, level, convolutions):
        if not convolutions:
            return None
        embedding = self.config.embedding if level >= 2 else 0
        return Block(self.config.widths[level], convolutions, embedding)

    def _initialise(self):
        """Start with noise everywhere: few pixels are artefacts, fewer are centres of sources."""
        nn.init.normal_(self.head.weight, std=1e-2)
        nn.init.zeros_(self.trust.weight)
        nn.init.zeros_(self.trust.bias)
        start = torch.tensor([0.0, 0.0, 2.0, -1.0, -4.0, -5.0])
        with torch.no_grad():
            # pixel_shuffle takes four consecutive channels for each plane.
            self.head.bias.copy_(start.repeat_interleave(4))

    @property
    def multiple(self):
        """Sides of the input must be multiples of this many pixels."""
        return 2 ** len(self.config.widths)

    def forward(self, x, rate, frame):
        """Run the network.

        Parameters
        ----------
        x : Tensor, (n, 1, y, x) float32
            Image at noise rate `rate` in units of the sky's rms.
        rate : Tensor, (1,) or (n,) float32
        frame : Tensor, (1, k) or (n, k) float32
            See `bgrem.detection.frame.Frame.vector`.

        Returns
        -------
        Tensor, (n, 4, y, x) float32
        """
        return torch.cat(self.channels(x, rate, frame), dim=1)

    def channels(self, x, rate, frame):
        """The channels that `forward` concatenates, each (n, 1, y, x), so that some can be left out."""
        with torch.autocast(x.device.type, enabled=False):
            planes = self._planes(x, frame)
        embedded = self.embed(torch.cat([_waves(rate), frame], dim=1))
        folded = self._body(planes, embedded).float()
        # Planes are unfolded one at a time: runtimes are slow at splitting a stack of planes.
        unfolded = (functional.pixel_shuffle(four, 2) for four in folded.split(4, dim=1))
        noise, smooth, share, log_variance, artefact, centre = unfolded
        variance = 1 + functional.relu(x) / KNEE
        scale = torch.sqrt(variance)
        # Where a source is bright, the estimated noise is subtracted from the image, which keeps
        # the flux exact. In noise and in hit pixels the sources come from their neighbourhood.
        share = torch.sigmoid(share)
        sources = (1 - share) * (x - scale * noise) + share * scale * smooth
        residual = (x - sources) / rate[:, None, None, None]
        log_variance = log_variance + torch.log(variance)
        # A bright source is certain and centred where it is brightest. This is not learnt.
        centre = centre + CENTRE_GROWTH * torch.log(1 + functional.relu(sources.detach()))
        centre = centre + self.trust(embedded)[:, :, None, None].float() * planes[:, 2:]
        return residual, log_variance, artefact, centre

    def _planes(self, x, frame):
        """Input planes (n, 3, y, x): the image, compressed and clipped, and its filtered S/N."""
        filtered = StarFilter(frame).snr(x)
        return torch.cat([_compressed(x), x.clamp(-6, 10) / 4, filtered.clamp(-6, 14) / 4], dim=1)

    def _body(self, planes, embedded):
        """The U-Net: (n, 3, y, x) -> (n, 24, y / 2, x / 2), 2 x 2 pixels of each plane."""
        h = functional.relu(self.stem(planes))
        skips = []
        for level, block in enumerate(self.encoder):
            h = h if block is None else block(h, embedded)
            if level < len(self.down):
                skips.append(h)
                h = self.down[level](h)
        for level in reversed(range(len(self.down))):
            h = functional.interpolate(self.up[level](h), scale_factor=2, mode="nearest")
            skip = skips[level]
            h = h + (self.gates[level - 1](skip, h) if level else skip)
            block = self.decoder[level]
            h = h if block is None else block(h, embedded)
        return self.head(h)


def _compressed(x):
    """sign(x) log(1 + |x|), linear near zero: it reduces a range of 1e5 to order ten."""
    return torch.sign(x) * torch.log(1 + torch.abs(x))


def _waves(rate):
    """Sinusoidal embedding of the rate, (n, 8) (Vaswani et al. 2017, arXiv:1706.03762)."""
    frequencies = 2.0 ** torch.arange(4, dtype=torch.float32, device=rate.device)
    angles = torch.pi * rate[:, None] * frequencies
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
