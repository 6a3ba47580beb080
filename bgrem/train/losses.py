"""What a training minimises: how far a network's channels are from the truth of a batch."""

import torch
from torch.nn import functional

from bgrem.network.significance import log_odds, snr_without_artefacts
from bgrem.network.significance_constants import SignificanceConstants
from bgrem.network.star_filter import fwhm_of
from bgrem.network.unet import KNEE

__all__ = ["losses", "sky_losses"]

POOLS = (1, 2, 4, 8, 16)
# Errors of the sources above this many expected deviations count linearly, not squared: a missed
# cosmic ray of a thousand sigma must not outweigh a million faint pixels, yet keep its gradient.
ROBUST = 6.0
# The logarithm of 1 + error / TEMPER is taken of every tile: a crowded or nebulous tile, whose
# error is a hundred times that of a sparse one, would otherwise set the gradient of its batch.
TEMPER = 0.05
# Peaks of the significance within MATCHED pixels of the centre of a source belong to it. Sources are ranked against the
# highest false peaks of their tile (at a side of 192 pixels 100 per Mpix) and of the batch (16 tiles: 20 per Mpix).
MATCHED, HIGHEST_OF_TILE, HIGHEST_OF_BATCH = 2, 4, 12
# Of a sky network: wide light above LEAST_WIDE_LIGHT, in sky rms, is what it is asked for, an error of a frame's
# level below LEAST_ERROR is as good as none, and errors of the level have FREEDOM degrees of freedom: those
# of frames without sky are far out.
LEAST_WIDE_LIGHT, LEAST_ERROR, FREEDOM = 0.05, 0.005, 4.0


def losses(channels, x, rate, batch):
    """The losses of a batch by name, each a scalar.

    ``sources``: squared error of the sources over their expected noise, of pixels and of their
    means over 2 to 16 pixels, so that neither an aperture's flux nor a faint disc is off; of
    each tile its logarithm;
    ``variance``: Gaussian log-likelihood of that error, held fixed, times its deviation
    (beta-NLL, beta 0.5; Seitzer et al. 2022, arXiv:2203.09168);
    ``artefact``, ``centre``: cross entropies;
    ``ranking``: the share of the pairs of a true source and one of the highest false peaks that the
    significance (`bgrem.network.significance`) puts in the wrong order.

    Parameters
    ----------
    channels : Tensor, (n, 4, y, x) float32
        The network's output, `bgrem.network.unet.CHANNELS`.
    x : Tensor, (n, 1, y, x) float32
        Its input: the images at noise rate `rate` in units of the sky's rms.
    rate : Tensor, (n,) float32
        All but ``sources`` count only images at rate 1.
    batch : dict of Tensor, (n, 1, y, x)
        ``sources``, ``artefact``, ``weight``, ``centre`` and the frame vectors ``frame``, (n, k), as
        `bgrem.train.parents.ParentWindow.sample` gives them.

    Returns
    -------
    dict of Tensor
        ``sources``, ``variance``, ``artefact``, ``centre``, ``ranking``.
    """
    residual, log_variance, artefact, centre = channels.split(1, dim=1)
    weight = batch["weight"]
    sources = x - rate[:, None, None, None] * residual
    expected = torch.sqrt(1 + functional.relu(batch["sources"]) / KNEE)
    error = weight * (sources - batch["sources"]) / expected
    parts = {"sources": torch.log1p(_pooled(error) / TEMPER).mean()}
    squared = (weight * (sources - batch["sources"]).detach()) ** 2
    # Heavy-tailed errors of missed artefacts would make all uncertainties too large.
    squared = torch.minimum(squared, 100.0 * expected**2)
    log_variance = log_variance.clamp(-12, 16)
    observed = weight * (rate == 1)[:, None, None, None]
    likelihood = 0.5 * (log_variance + squared * torch.exp(-log_variance))
    likelihood = likelihood * torch.exp(0.5 * log_variance.detach())
    parts["variance"] = _mean(likelihood, observed)
    parts["artefact"] = _mean(
        functional.binary_cross_entropy_with_logits(artefact, batch["artefact"], reduction="none"),
        observed,
    )
    label = batch["centre"].float()
    scored = observed * (label >= 0)
    parts["centre"] = _mean(
        functional.binary_cross_entropy_with_logits(centre, label.clamp(min=0), reduction="none"),
        scored,
    )
    parts["ranking"] = _misranked(_significance(channels, x, sources, batch), label, observed)
    return parts


def _significance(channels, x, sources, batch):
    """SIGNIF of observed images; it gives the network a gradient by the odds alone, not by the S/N."""
    constants = SignificanceConstants()
    _, _, artefact, centre = channels.split(1, dim=1)
    snr = snr_without_artefacts(x, sources, artefact, batch["frame"], constants).detach()
    return log_odds(centre, fwhm_of(batch["frame"]), constants) + constants.snr_weight * snr


def _misranked(score, label, observed):
    """Share of the pairs of a true and a false peak that are in the wrong order, smooth; the mean of tiles.

    Detections are judged where few are false: the false peaks are the `HIGHEST_OF_TILE` of the tile itself and the
    `HIGHEST_OF_BATCH` of all tiles. The sigmoid, unlike a logarithmic loss, leaves out sources that are too faint for
    any threshold.
    """
    true = (label == 1) & (observed > 0)
    near_true = functional.max_pool2d((label == 1).float(), 2 * MATCHED + 1, 1, MATCHED) > 0
    peak = score == functional.max_pool2d(score, 3, 1, 1)
    false = peak & (label == 0) & (observed > 0) & ~near_true
    lowest = torch.full_like(score, -torch.inf)
    # The place of a source is its best pixel.
    best = functional.max_pool2d(torch.where(true, score, lowest), 2 * MATCHED + 1, 1, MATCHED)
    tile, *_ = place = torch.nonzero(true & (score == best), as_tuple=True)
    highest = torch.where(false, score, lowest).flatten(1).topk(HIGHEST_OF_TILE).values
    of_batch = highest.flatten().topk(min(HIGHEST_OF_BATCH, highest.numel())).values
    rivals = torch.cat([highest, of_batch.expand(len(highest), -1)], dim=1)
    wrong = torch.sigmoid(rivals[tile] - score[place][:, None]).mean(dim=1)
    number = torch.bincount(tile, minlength=len(score)).clamp(min=1)
    return (wrong / number[tile]).sum() / len(score)


def _pooled(error):
    """Robust squared error of block means of 1 to 16 pixels, of each tile, (n,).

    The mean of p x p pixels has 1/p of a pixel's noise; an error that is smooth gains as
    much weight, tempered by the square root so that the coarsest does not rule.
    """
    total = 0.0
    for pool in POOLS:
        pooled = functional.avg_pool2d(error, pool) if pool > 1 else error
        scaled = pooled * pool**0.5
        robust = ROBUST**2 * (torch.sqrt(1 + (scaled / ROBUST) ** 2) - 1)
        total = total + robust.mean(dim=(1, 2, 3))
    return total


def _mean(values, weight):
    return (values * weight).sum() / weight.sum().clamp(min=1.0)


def sky_losses(outputs, batch):
    """The losses of a sky network by name, each a scalar.

    ``level``: 0.5 ln(mean squared error of the background + 0.01^2) of each frame, so that frames of all
    difficulties count alike; ``deviation``: the mean absolute error, smooth below 0.01; ``error``:
    Student's log-likelihood of the background's error; ``wide``: cross entropy; ``rms``: the mean absolute
    error of its logarithm.

    Parameters
    ----------
    outputs : Tensor, (n, 4, y, x) float32
        `bgrem.sky.network_input.SKY_OUTPUTS`.
    batch : dict of Tensor, (n, y, x)
        As `bgrem.train.sky_frames.SkyBatches.draw` gives them.

    Returns
    -------
    dict of str to Tensor
    """
    known = batch["known"]
    number = known.sum((1, 2)).clamp(min=1)
    error = known * (outputs[:, 0] - batch["background"]).clamp(-100, 100)
    square = (error**2).sum((1, 2)) / number
    log_error = outputs[:, 2].clamp(-8, 5)
    pull = error.detach() ** 2 * torch.exp(-2 * log_error)
    surprise = log_error + 0.5 * (FREEDOM + 1) * torch.log1p(pull / FREEDOM)
    lit = (batch["wide"] > LEAST_WIDE_LIGHT).to(error.dtype)
    wide = functional.binary_cross_entropy_with_logits(outputs[:, 3], lit, known)
    measured = known * (batch["weight"] > 0)
    log_rms = torch.log(outputs[:, 1].clamp(min=1e-3) / batch["rms"].clamp(min=1e-3))
    return {
        "level": 0.5 * torch.log(square + LEAST_ERROR**2).mean(),
        "deviation": (torch.sqrt(error**2 + LEAST_ERROR**2).sum((1, 2)) / number).mean(),
        "error": (known * surprise).sum() / number.sum(),
        "wide": wide,
        "rms": (torch.sqrt(log_rms**2 + LEAST_ERROR**2) * measured).sum()
        / measured.sum().clamp(min=1),
    }
