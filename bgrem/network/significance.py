"""The plane that sources are detected in: what a network and what the matched filter say of them.

A network knows what is a defect, a particle or a nebula, but its chances crowd near 1, where the few false
detections of a clean list are told from sources. The matched filter is the optimum in noise (Irwin
1985, MNRAS 214, 575), and knows nothing else. So the logarithm of the one and the S/N of the other,
on the image without what the network takes for artefacts, are added up; and since what stands far above
the noise is a source or an artefact, but not noise, the network's doubts weigh more there. In correlated
noise a S/N above 6 raises the sum by more, and one below lowers it.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from bgrem.network.star_filter import StarFilter, correlation_of, fwhm_of, matched_kernel, separable
from bgrem.network.unet import CHANNELS

__all__ = ["PLANES", "WithSignificance", "certainty", "gathered_chance", "together"]

#: What `WithSignificance` gives: the network's channels, with the significance for the centre's logit.
PLANES = (*CHANNELS[:-1], "significance")
# The centre of a faint or wide source may be in any of many pixels, none of which is likely to be it: in
# units of the FWHM, the deviation of the Gaussian in which their chances are gathered. It weighs as a
# disc of half a FWHM does, in which a detection counts as that of a source.
REACH = 0.4
# What a network is taught to call a centre (`bgrem.train.parents`), in FWHM around the true one.
CENTRE = 0.25
LEAST_CHANCE = 1e-12
SNR_WEIGHT = 0.75  # 0.5 to 1 do as well in white noise
# By so much more for what the correlation of neighbours exceeds: structure in correlated noise looks like
# sources to a network, and is in the noise of what a matched filter gives. A lower correlation may be that of
# crowds and nebulae. What stands as high as the highest noise stays.
CORRELATED, CORRELATED_FROM, HIGHEST_NOISE = 5.0, 0.15, 6.0
# What a chance lacks of this one weighs by so much more with each unit of S/N between these two. It is below
# one: of sources in structure that no simulated frame has, the network is less than sure.
DOUBTED = 0.5
DOUBT, DOUBT_FROM, DOUBT_TO = 0.5, 4.0, 8.0
# Above this S/N its logarithm counts: brighter sources are surer, and need no more than an order.
BRIGHT_SNR, LOWEST_SNR = 8.0, -6.0


class WithSignificance(nn.Module):
    """A network, with the significance of sources in the place of its last channel.

    The significance is an output of its own: runtimes leave out what is not asked for.

    Parameters
    ----------
    network : bgrem.network.unet.AttentionUNet
    """

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, rate, frame):
        """Run the network.

        Parameters
        ----------
        x, rate, frame : Tensor
            As for the network.

        Returns
        -------
        channels : Tensor, (n, 3, y, x) float32
        significance : Tensor, (n, 1, y, x) float32
            Together the channels of `PLANES`.
        """
        residual, log_variance, artefact, centre = self.network.channels(x, rate, frame)
        # What leaks into the neighbours of a pixel that was hit is no star either.
        hit = functional.max_pool2d(artefact, 3, stride=1, padding=1) > 0
        cleaned = torch.where(hit, x - rate[:, None, None, None] * residual, x)
        chance = gathered_chance(torch.sigmoid(centre), fwhm_of(frame))
        snr = StarFilter(frame).snr(cleaned)
        significance = together(torch.log(chance), snr, correlation_of(frame))
        return torch.cat([residual, log_variance, artefact], dim=1), significance


def together(log_chance, snr, correlation):
    """The significance, from the logarithm of the chance of a source and the S/N of a star there.

    Parameters
    ----------
    log_chance, snr : Tensor, (n, 1, y, x) float32
    correlation : Tensor, (n, 2) float32
        Of the noise of neighbours along x and y.

    Returns
    -------
    Tensor, (n, 1, y, x) float32
    """
    doubt = DOUBT * (snr.clamp(DOUBT_FROM, DOUBT_TO) - DOUBT_FROM)
    lacking = (log_chance - math.log(DOUBTED)).clamp(max=0)
    more = CORRELATED * (correlation.amax(dim=1) - CORRELATED_FROM).clamp(min=0)
    sure = certainty(snr)
    counts_for_more = more[:, None, None, None] * (sure - HIGHEST_NOISE)
    return log_chance + doubt * lacking + SNR_WEIGHT * sure + counts_for_more


def gathered_chance(chance, fwhm):
    """Expected number of sources near each pixel, from the chances that pixels are centres.

    Parameters
    ----------
    chance : Tensor, (n, 1, y, x) float32
    fwhm : Tensor, (1,) float32
        Of the stars, in pixels.

    Returns
    -------
    Tensor, (n, 1, y, x) float32
        The sum of the chances, weighted by a Gaussian of `REACH`; 1 where all pixels that one
        source's centre covers, and no others, are certain, and `LEAST_CHANCE` at the least.
    """
    kernel = matched_kernel(2.3548 * REACH * fwhm)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    whole = 1 - math.exp(-0.5 * (CENTRE / REACH) ** 2)
    return (separable(chance, kernel) / whole).clamp(min=LEAST_CHANCE)


def certainty(snr):
    """The S/N where it is low, growing with its logarithm above `BRIGHT_SNR`; a Tensor's shape stays."""
    above = BRIGHT_SNR * (1 + torch.log(snr.clamp(min=BRIGHT_SNR) / BRIGHT_SNR))
    return torch.where(snr > BRIGHT_SNR, above, snr.clamp(min=LOWEST_SNR))
