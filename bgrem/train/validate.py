"""Validation of a network in training by what it is for: detections on scenes kept apart."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch

from bgrem.detection.detect import detect_peaks
from bgrem.detection.point_sources import detect_matched_filter
from bgrem.evaluate.froc import froc
from bgrem.evaluate.inject import found_by_models
from bgrem.evaluate.target import read_target
from bgrem.evaluate.truth import Truth, truth_of_sky
from bgrem.inference.model import load_model
from bgrem.network.significance import WithSignificance
from bgrem.simulate.scene import GAP_BIT
from bgrem.train.own_sky import LARGEST_OWN, training_rows
from bgrem.train.parents import Parent, make_parent, simulated_sky

__all__ = ["ValidationFrame", "check_is_better", "draw_validation", "validate"]

_logger = logging.getLogger(__name__)

PACKAGE = "optical"  # the model of the package

SCORED_BORDER = 8  # px: detections this near to an edge are not counted
RATE = 30.0  # false detections per Mpix at which networks are compared


@dataclass(frozen=True)
class ValidationFrame:
    """A held-out scene, its truth, and what the matched filter finds in it.

    Attributes
    ----------
    parent : Parent
    truth : Truth
    reference : structured array
        Detections (`bgrem.detection.peaks.DETECTION`) of the matched filter that knows the PSF.
    """

    parent: Parent
    truth: Truth
    reference: np.ndarray


def draw_validation(seed, *, count=10, size=512, box=256, draw_sky=simulated_sky):
    """Scenes that no training step sees: their numbers are drawn from another stream.

    Parameters
    ----------
    seed : int
        Of the training.
    count : int
        Number of scenes.
    size, box : int
        Sides of a scene and of its sky mesh's boxes in pixels.
    draw_sky : callable
        As `bgrem.train.parents.simulated_sky`.

    Returns
    -------
    list of ValidationFrame
    """
    frames, index = [], 0
    while len(frames) < count:
        index += 1  # from 1: a seed that ends in 0 is the one without it, a parent's
        rng = np.random.default_rng([seed, 2, index])
        sky = draw_sky(rng, size)
        parent = make_parent(sky, rng, box=box)
        truth = truth_of_sky(sky, border=SCORED_BORDER)
        if parent is None or truth.counted.sum() < 5:
            continue
        gap = sky.mask & GAP_BIT > 0
        reference = detect_matched_filter(sky.data, sky.psf.image, mask=gap)
        frames.append(ValidationFrame(parent, truth, reference))
    return frames


def validate(network, frames):
    """True positives at `RATE` false per Mpix, and their ratio to the matched filter's.

    Parameters
    ----------
    network : AttentionUNet
        Left in training mode.
    frames : list of ValidationFrame

    Returns
    -------
    dict
        ``found``, ``reference`` (true positives), ``ratio``; ``shrinkage``: recovered over
        true flux of faint pixels, the regression slope of the sources on the truth where it is
        between 0.3 and 3 times the sky's rms.
    """
    network.eval()
    detections, slopes = [], []
    for frame in frames:
        significance, sources = _run(network, frame.parent)
        detections.append(detect_peaks(significance, threshold=-9.0))
        slopes.append(_moments(sources, frame.parent.sources))
    network.train()
    truths = [frame.truth for frame in frames]
    found = froc(detections, truths).true_positives(RATE)
    reference = froc([frame.reference for frame in frames], truths).true_positives(RATE)
    products, squares = np.sum(slopes, axis=0)
    return {
        "found": float(found),
        "reference": float(reference),
        "ratio": float(found / max(reference, 1.0)),
        "shrinkage": float(products / max(squares, 1e-9)),
    }


def check_is_better(model, config, *, seed=0):
    """Check that a model finds more than that of the package, in a real frame that its training did not see.

    Sources of known flux are drawn into the frame, whose noise and defects are the real ones
    (`bgrem.evaluate.inject`).

    Parameters
    ----------
    model : `~bgrem.inference.model.Model`
    config : TrainingConfig
        With ``judged``.
    seed : int
        Of the sources.

    Raises
    ------
    ValueError
        In one sentence, if it does not.
    """
    target = read_target(config.judged, largest=LARGEST_OWN)
    if config.judged in config.frames:
        usable = target.usable.copy()
        usable[: training_rows(len(usable))] = False
        target = replace(target, usable=usable)
    found, scored = found_by_models(
        target, {"new": model, PACKAGE: load_model(PACKAGE)}, rng=np.random.default_rng([seed, 5])
    )
    numbers = (
        f"of {scored} sources drawn into {target.name}, it finds {found['new']}, the model of the "
        f"package {found[PACKAGE]}"
    )
    if found["new"] <= found[PACKAGE]:
        raise ValueError(f"the model was not written, because it is not better: {numbers}")
    _logger.info("the model is better: %s", numbers)


def _run(network, parent):
    """Significance and sources of a whole parent, (ny, nx) float32 each."""
    device = next(network.parameters()).device
    x = torch.from_numpy(parent.x)[None, None].to(device)
    vector = torch.from_numpy(parent.frame.vector())[None].to(device)
    with torch.no_grad():
        planes = WithSignificance(network)(x, torch.ones(1, device=device), vector)
    channels, significance = (part[0].float().cpu().numpy() for part in planes)
    return significance[0], parent.x - channels[0]


def _moments(sources, truth):
    faint = (truth > 0.3) & (truth < 3.0)
    return [float((sources * truth)[faint].sum()), float((truth**2)[faint].sum())]
