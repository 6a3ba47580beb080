r"""The significance (SIGNIF): the plane on which sources are detected.

It combines two scores. The network recognises defects, particles and nebulae, but its chances
are all close to 1 where few false detections are allowed. The matched filter is the optimum for
stars in noise (Irwin 1985, MNRAS 214, 575), but recognises nothing else. With FWHM that of the
stars,

- :math:`p`, the chance that a source is centred in a pixel, from the network;
- :math:`S`, the S/N of a star in a pixel, from the matched filter on the image without artefacts;
- :math:`C`, the larger of the noise correlations of neighbours along x and y;
- :math:`G`, a Gaussian of unit sum with sigma :math:`\sigma_g` FWHM,

the significance is

.. math::

    \mathrm{SIGNIF} &= \ln P
        + \delta \, (\mathrm{clip}(S, S_1, S_2) - S_1) \, \min(\ln P - \ln P_d, \, 0) \\
        &\quad + w \, s + \kappa \, \max(C - C_0, \, 0) \, (s - S_n)

    P &= \max\left(\frac{G * p}{1 - \exp(-r_c^2 / 2 \sigma_g^2)}, \, P_{min}\right)

    s &= \begin{cases} \max(S, S_{min}) & S \le S_b \\
        S_b \, (1 + \ln(S / S_b)) & S > S_b \end{cases}

The constants are those of the model's card, `SignificanceConstants`. The second term gives the
network's doubts more weight where the S/N is high: what is far above the noise is a source or an
artefact, but not noise. The last term gives the S/N more weight in correlated noise, whose
structure looks like sources to the network.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from bgrem.arrays.statistics import FWHM_PER_SIGMA
from bgrem.network.significance_constants import SignificanceConstants
from bgrem.network.star_filter import StarFilter, correlation_of, fwhm_of, matched_kernel, separable
from bgrem.network.unet import CHANNELS

__all__ = [
    "MODEL_CHANNELS", "WithSignificance", "combined_significance", "compressed_snr",
    "gathered_chance",
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
        """Run the network.

        Parameters
        ----------
        x, rate, frame : Tensor
            As for the network.

        Returns
        -------
        channels : Tensor, (n, 3, y, x) float32
        significance : Tensor, (n, 1, y, x) float32
            Together the channels of `MODEL_CHANNELS`.
        """
        residual, log_variance, artefact, centre = self.network.channels(x, rate, frame)
        # Charge that leaks from a hit pixel into its neighbours is an artefact, too.
        hit = functional.max_pool2d(artefact, 3, stride=1, padding=1) > 0
        cleaned = torch.where(hit, x - rate[:, None, None, None] * residual, x)
        chance = gathered_chance(torch.sigmoid(centre), fwhm_of(frame), self.constants)
        significance = combined_significance(
            torch.log(chance), StarFilter(frame).snr(cleaned), correlation_of(frame), self.constants
        )
        return torch.cat([residual, log_variance, artefact], dim=1), significance


def combined_significance(log_chance, snr, correlation, constants):
    """SIGNIF, from the logarithm of the chance of a source and the S/N of a star.

    Parameters
    ----------
    log_chance, snr : Tensor, (n, 1, y, x) float32
    correlation : Tensor, (n, 2) float32
        Noise correlation of neighbours along x and y.
    constants : SignificanceConstants

    Returns
    -------
    Tensor, (n, 1, y, x) float32
        See the equation of `bgrem.network.significance`.
    """
    c = constants
    doubt = c.doubt_weight * (snr.clamp(c.doubt_from_snr, c.doubt_to_snr) - c.doubt_from_snr)
    lacking = (log_chance - math.log(c.doubted_chance)).clamp(max=0)
    added = c.correlated_weight * (correlation.amax(dim=1) - c.correlated_from).clamp(min=0)
    compressed = compressed_snr(snr, c)
    in_correlated_noise = added[:, None, None, None] * (compressed - c.highest_noise_snr)
    return log_chance + doubt * lacking + c.snr_weight * compressed + in_correlated_noise


def gathered_chance(chance, fwhm, constants):
    """Expected number of sources near each pixel, from the chances that pixels are centres.

    The centre of a faint or wide source may be in any of many pixels, none of which has a high
    chance.

    Parameters
    ----------
    chance : Tensor, (n, 1, y, x) float32
    fwhm : Tensor, (1,) float32
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
    return (separable(chance, kernel) / whole).clamp(min=constants.least_chance)


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
