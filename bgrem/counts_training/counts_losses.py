"""Losses of a counts network: divergences of Poisson expectations."""

import torch
from torch.nn import functional

__all__ = ["counts_losses", "poisson_divergence"]

FEWEST_IN_MAP = 30.0  # of a map, below which it has no larger weight
WILD_DIVERGENCE = 300.0  # of a map: a larger one counts less
PADDING = 1e-9


def poisson_divergence(truth, estimate):
    """Twice the mean log-likelihood ratio per pixel that is lost by an estimate of an expectation, halved.

    The Bregman divergence of x log x: it is least, in the mean over what the truth may be, at the posterior
    mean (Banerjee et al. 2005, IEEE Trans. Inf. Theory 51, 2664), and it is the loss of diffusion by thinning
    (Chen & Zhou 2023, arXiv:2305.18375).

    Parameters
    ----------
    truth, estimate : Tensor, (n, 1, y, x) float32
        Expected counts; the estimate is positive.

    Returns
    -------
    Tensor, (n, 1, y, x) float32
        truth log(truth / estimate) - truth + estimate, not negative.
    """
    return torch.xlogy(truth, (truth + PADDING) / (estimate + PADDING)) - truth + estimate


def counts_losses(channels, batch):
    """The losses by name.

    Parameters
    ----------
    channels : tuple of Tensor, (n, 1, y, x) float32
        Of `bgrem.network.counts_network.CountsNetwork.channels`.
    batch : dict of Tensor
        As of `bgrem.counts_training.counts_batches.draw_batch`.

    Returns
    -------
    dict of str to Tensor
    """
    sources, background, variance, centre, first = channels
    seen = batch["planes"][:, 2:]
    # The divergence of a map is about half the number of its free parameters, whatever its counts; one
    # that is not known yet is as large as its counts.
    total = batch["planes"][:, :1].sum((1, 2, 3))
    weight = 1 / torch.sqrt(FEWEST_IN_MAP + total)

    def divergence(truth, estimate):
        whole = (seen * poisson_divergence(truth, estimate)).sum((1, 2, 3))
        return (weight * WILD_DIVERGENCE * torch.log1p(whole / WILD_DIVERGENCE)).mean()

    square = (batch["sources"] - sources.detach()) ** 2
    mean = (seen * variance).sum((1, 2, 3), True) / seen.sum((1, 2, 3), True).clamp(min=1)
    scale = (variance + mean).detach() + PADDING
    spread = seen * (variance / scale - square / scale * torch.log(variance / scale + PADDING))
    labels = functional.binary_cross_entropy_with_logits(centre, batch["label"], reduction="none")
    return {
        "sources": divergence(batch["sources"], sources),
        "background": divergence(batch["background"], background),
        "first": divergence(batch["background"], first),
        "variance": spread.mean(),
        "centre": (batch["label_weight"] * labels).mean(),
    }
