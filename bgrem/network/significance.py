r"""The significance (SIGNIF): the plane on which sources are detected.

With :math:`z` the network's logit that a source is centred in a pixel, :math:`p = 1 / (1 + e^{-z})` its chance,
:math:`S` the S/N of a star in a pixel, from the matched filter (Irwin 1985, MNRAS 214, 575) on the image without
artefacts, and :math:`G` a Gaussian of unit sum with sigma :math:`\sigma_g` FWHM, the significance is

.. math::

    \mathrm{SIGNIF} &= \ln P + \ln(1 + e^z) + w \, s

    P &= \max\left(\frac{G * p}{1 - \exp(-r_c^2 / 2 \sigma_g^2)}, \, P_{min}\right)

    s &= \begin{cases} \max(S, S_{min}) & S \le S_b \\
        S_b \, (1 + \ln(S / S_b)) & S > S_b \end{cases}

The first term is the chance of a source whose centre may be in any of many pixels. The second continues it where the
chance is near 1: for a source in a single pixel the sum of both is the logit :math:`z`, up to a constant. The network is
trained so that SIGNIF ranks sources above the highest false peaks (`bgrem.train.losses`). The constants are those of the
model's card, `SignificanceConstants`.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from bgrem.arrays.statistics import FWHM_PER_SIGMA
from bgrem.network.significance_constants import SignificanceConstants
from bgrem.network.star_filter import StarFilter, filter_stars, fwhm_of, matched_kernel
from bgrem.network.unet import CHANNELS

__all__ = [
    "MODEL_CHANNELS", "WithSignificance", "compressed_snr", "gathered_chance", "log_odds",
    "snr_without_artefacts",
]  # fmt: skip

#: Channels of `WithSignificance`: those of the network, with the significance instead of the centre.
MODEL_CHANNELS = (*CHANNELS[:-1], "significance")


class WithSignificance(nn.Module):
    """A network whose last channel is replaced by the significance of sources.

    The significance is an output of its own, so that a runtime can leave it out.

    Parameters
    ----------
    network : bgrem.network.unet.AttentionUNet
    constants : SignificanceConstants, optional
        Those of the model. Default: those of the optical model.
    """

    def __init__(self, network, constants=None):
        super().__init__()
        self.network = network
        self.constants = constants or SignificanceConstants()

    def forward(self, x, rate, frame):
        """The channels of `MODEL_CHANNELS`, (n, 3, y, x) and (n, 1, y, x), from the input of `terms`."""
        channels, odds, snr = self.terms(x, rate, frame)
        return channels, odds + self.constants.snr_weight * snr

    def terms(self, x, rate, frame):
        """Run the network: what the significance is put together from.

        Parameters
        ----------
        x, rate, frame : Tensor
            As for the network.

        Returns
        -------
        channels : Tensor, (n, 3, y, x) float32
        odds, snr : Tensor, (n, 1, y, x) float32
            Logarithm of the odds of a source (`log_odds`), and the S/N as it counts (`compressed_snr`).
        """
        residual, log_variance, artefact, centre = self.network.channels(x, rate, frame)
        sources = x - rate[:, None, None, None] * residual
        odds = log_odds(centre, fwhm_of(frame), self.constants)
        snr = snr_without_artefacts(x, sources, artefact, frame, self.constants)
        return torch.cat([residual, log_variance, artefact], dim=1), odds, snr


def snr_without_artefacts(x, sources, artefact, frame, constants):
    """S/N of a star in each pixel, as it counts: the matched filter on the image without artefacts.

    Parameters
    ----------
    x, sources, artefact : Tensor, (n, 1, y, x) float32
        The image, the sources in it, which take its place where it was hit, and the logit that a pixel was.
    frame : Tensor, (n, k) float32
    constants : SignificanceConstants

    Returns
    -------
    Tensor, (n, 1, y, x) float32
    """
    # Charge that leaks from a hit pixel into its neighbours is an artefact, too.
    hit = functional.max_pool2d(artefact, 3, stride=1, padding=1) > 0
    return compressed_snr(StarFilter(frame).snr(torch.where(hit, sources, x)), constants)


def log_odds(centre, fwhm, constants):
    """Logarithm of the odds that a source is near each pixel, from the logits that pixels are centres.

    Parameters
    ----------
    centre : Tensor, (n, 1, y, x) float32
    fwhm : Tensor, (n,) float32
        Of the stars, in pixels.
    constants : SignificanceConstants

    Returns
    -------
    Tensor, (n, 1, y, x) float32
        The first two terms of the equation of `bgrem.network.significance`.
    """
    chance = gathered_chance(torch.sigmoid(centre), fwhm, constants)
    return torch.log(chance) + functional.softplus(centre)


def gathered_chance(chance, fwhm, constants):
    """Expected number of sources near each pixel, from the chances that pixels are centres.

    The centre of a faint or wide source may be in any of many pixels, none of which has a high
    chance.

    Parameters
    ----------
    chance : Tensor, (n, 1, y, x) float32
    fwhm : Tensor, (1,) or (n,) float32
        Of the stars, in pixels.
    constants : SignificanceConstants

    Returns
    -------
    Tensor, (n, 1, y, x) float32
        The sum of the chances, weighted by the Gaussian of ``gathering_sigma``; 1 where exactly
        the pixels within ``centre_radius`` of one source are certain; at least ``least_chance``.
    """
    kernel = matched_kernel(FWHM_PER_SIGMA * constants.gathering_sigma * fwhm)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    radius = constants.centre_radius / constants.gathering_sigma
    whole = 1 - math.exp(-0.5 * radius**2)
    return (filter_stars(chance, kernel) / whole).clamp(min=constants.least_chance)


def compressed_snr(snr, constants):
    """The S/N up to ``bright_snr``, and above it a logarithmic continuation.

    Parameters
    ----------
    snr : Tensor, float32
        Of any shape.
    constants : SignificanceConstants

    Returns
    -------
    Tensor, float32
        Of that shape, at least ``lowest_snr``.
    """
    bright = constants.bright_snr
    above = bright * (1 + torch.log(snr.clamp(min=bright) / bright))
    return torch.where(snr > bright, above, snr.clamp(min=constants.lowest_snr))
