"""What a weight of the S/N would add to the significance: true detections at equal false ones.

    python benchmarks/quality/significance.py --json results/significance.json

Scenes of the training sky that no training draws, 768 pixels wide. To SIGNIF (`bgrem.network.significance`) a term
(w + k max(C, 0)) s is added, with the noise correlation C and the S/N s of a star, from the matched filter on the image
without what the network takes for artefacts; above 8 the S/N counts by its logarithm. For each w and k the table has the
mean, over scenes and over 10, 30 and 100 false detections per Mpix, of the logarithm of the true detections over those
with w = k = 0, its standard error, and the same of scenes with correlated noise (C > 0.1), of scenes without, and of the
least tenth of the scenes.
"""

import json
from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream
from torch.nn import functional

from bgrem.detection.detect import detect_peaks
from bgrem.evaluate.froc import froc
from bgrem.evaluate.truth import truth_of_sky
from bgrem.network.significance import log_odds
from bgrem.network.significance_constants import SignificanceConstants
from bgrem.network.star_filter import StarFilter, fwhm_of
from bgrem.network.unet import AttentionUNet, NetworkConfig
from bgrem.train.parents import make_parent, simulated_sky
from bgrem.train.schedule import load_weights

RATES = (10.0, 30.0, 100.0)  # false detections per Mpix
SNR_WEIGHTS, CORRELATED_WEIGHTS = (0.0, 0.1, 0.25, 0.5, 0.75), (0.0, 0.5, 1.0, 2.0, 4.0)
CORRELATED = 0.1
BORDER, LOWEST, BRIGHT = 8, -25.0, 8.0


def main(argv=None):
    """Run the command."""
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--scenes", type=int, default=60, help="number (default: 60)")
    parser.add_argument("--side", type=int, default=768, help="of a scene in pixels (default: 768)")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    network = AttentionUNet(NetworkConfig(**json.loads(model.engine.metadata["network"])))
    load_weights(network, Path(model.path).with_suffix(".safetensors"))
    found, correlations = [], []
    for number in range(options.scenes):
        show_progress(options, f"scene {number + 1} of {options.scenes}")
        planes = _scene(network.eval(), stream(options.seed, 24, number), options.side)
        if planes is not None:
            found.append(_found(*planes))
            correlations.append(planes[2])
    rows = _rows(np.array(found), np.array(correlations) > CORRELATED)
    finish(options, {"weights of the S/N": rows}, model=model, began=began)


def _scene(network, rng, side):
    """Log odds, S/N, correlation and truth of a scene; None where nothing can be found."""
    sky = simulated_sky(rng, side)
    parent, truth = make_parent(sky, rng), truth_of_sky(sky, border=BORDER)
    if parent is None or truth.counted.sum() < 5:
        return None
    frame = parent.frame
    odds, snr = _planes(network, parent)
    return odds, snr, max(frame.correlation_x, frame.correlation_y, 0.0), truth


def _planes(network, parent):
    """Significance and S/N, (ny, nx) float32 each."""
    x, vector = (torch.from_numpy(a)[None] for a in (parent.x[None], parent.frame.vector()))
    with torch.no_grad():
        residual, _, artefact, centre = network.channels(x, torch.ones(1), vector)
        # Charge that leaks from a hit pixel into its neighbours is an artefact, too.
        hit = functional.max_pool2d(artefact, 3, stride=1, padding=1) > 0
        snr = StarFilter(vector).snr(torch.where(hit, x - residual, x)).clamp(min=-BRIGHT)
        snr = torch.where(snr > BRIGHT, BRIGHT * (1 + torch.log(snr.clamp(min=1) / BRIGHT)), snr)
        odds = log_odds(centre, fwhm_of(vector), SignificanceConstants())
    return odds[0, 0].numpy(), snr[0, 0].numpy()


def _found(odds, snr, correlation, truth):
    """True detections, (w, k, rate)."""
    weights = list(product(SNR_WEIGHTS, CORRELATED_WEIGHTS))
    planes = (odds + np.float32(w + k * correlation) * snr for w, k in weights)
    curves = [froc([detect_peaks(plane, threshold=LOWEST)], [truth]) for plane in planes]
    found = [[curve.true_positives(rate) for rate in RATES] for curve in curves]
    return np.reshape(found, (len(SNR_WEIGHTS), len(CORRELATED_WEIGHTS), len(RATES)))


def _rows(found, correlated):
    """The table, of true detections (scene, w, k, rate)."""
    gains = np.log((found + 1) / (found[:, :1, :1] + 1)).mean(axis=3)
    rows = []
    for (i, w), (j, k) in product(enumerate(SNR_WEIGHTS), enumerate(CORRELATED_WEIGHTS)):
        gain = gains[:, i, j]
        rows.append(
            {"w": w, "k": k, "gain": gain.mean(), "error": gain.std() / np.sqrt(gain.size)}
            | {"correlated": _mean(gain[correlated]), "others": _mean(gain[~correlated])}
            | {"least tenth": np.quantile(gain, 0.1)}
        )
    return rows


def _mean(values):
    return float(values.mean()) if values.size else float("nan")


if __name__ == "__main__":
    main()
