"""The weight of the S/N in the significance: true detections at equal false ones.

    python benchmarks/quality/significance.py --json results/significance.json

SIGNIF is the logarithm of the odds that the network gives plus w s, with the S/N s (`bgrem.network.significance`). Two
sets of frames: scenes of the training sky that no training draws, 768 pixels wide, and the first frame of each cell of
the grid (`grid.toml`). For each w the table has the mean, over frames and over 10, 30 and 100 false detections per Mpix,
of the logarithm of the true detections over those with w = 0, its standard error, its median and its least tenth. Half of
the scenes of the training sky are poor frames, full of defects; most cells of the grid are sound.
"""

import json
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from grid import EMPTY, FROZEN, read_grid
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream

from bgrem.detection.detect import detect_peaks
from bgrem.evaluate.froc import froc
from bgrem.evaluate.truth import truth_of_sky
from bgrem.network.significance import WithSignificance
from bgrem.network.unet import AttentionUNet, NetworkConfig
from bgrem.simulate import draw
from bgrem.train.parents import make_parent, simulated_sky
from bgrem.train.schedule import load_weights

RATES = (10.0, 30.0, 100.0)  # false detections per Mpix
SNR_WEIGHTS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
BORDER, LOWEST = 8, -25.0


def main(argv=None):
    """Run the command."""
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--scenes", type=int, default=60, help="of the training sky (default: 60)")
    parser.add_argument("--side", type=int, default=768, help="of a frame in pixels (default: 768)")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    network = AttentionUNet(NetworkConfig(**json.loads(model.engine.metadata["network"])))
    load_weights(network, Path(model.path).with_suffix(".safetensors"))
    rows = []
    for name, skies in (("training sky", _training_skies(options)), ("grid", _cells(options))):
        found = [_found(*planes) for sky in skies if (planes := _scene(network.eval(), *sky))]
        rows += [{"frames": name, "number": len(found)} | row for row in _rows(np.array(found))]
    finish(options, {"weight of the S/N": rows}, model=model, began=began)


def _training_skies(options):
    """Scenes and their random numbers."""
    for number in range(options.scenes):
        show_progress(options, f"scene {number + 1} of {options.scenes}")
        rng = stream(options.seed, 24, number)
        yield simulated_sky(rng, options.side), rng


def _cells(options):
    for cell in read_grid(FROZEN, side=options.side):
        if cell.sky != EMPTY:
            show_progress(options, f"{cell.sky} {cell.fwhm:g}")
            rng = np.random.default_rng([*cell.stream, 0])
            yield draw(cell.scene, rng), rng


def _scene(network, sky, rng):
    """Log odds, S/N and truth of a scene; None where nothing can be found."""
    parent, truth = make_parent(sky, rng), truth_of_sky(sky, border=BORDER)
    if parent is None or truth.counted.sum() < 5:
        return None
    return *_planes(network, parent), truth


def _planes(network, parent):
    """Logarithm of the odds, and S/N as it counts, (ny, nx) float32 each."""
    x, vector = (torch.from_numpy(a)[None] for a in (parent.x[None], parent.frame.vector()))
    with torch.no_grad():
        _, odds, snr = WithSignificance(network).terms(x, torch.ones(1), vector)
    return odds[0, 0].numpy(), snr[0, 0].numpy()


def _found(odds, snr, truth):
    """True detections, (w, rate)."""
    planes = (odds + np.float32(weight) * snr for weight in SNR_WEIGHTS)
    curves = [froc([detect_peaks(plane, threshold=LOWEST)], [truth]) for plane in planes]
    return [[curve.true_positives(rate) for rate in RATES] for curve in curves]


def _rows(found):
    """The table, of true detections (frame, w, rate)."""
    gains = np.log((found + 1) / (found[:, :1] + 1)).mean(axis=2)
    return [
        {"w": weight, "mean": gain.mean(), "error": gain.std() / np.sqrt(gain.size)}
        | {"median": np.median(gain), "least tenth": np.quantile(gain, 0.1)}
        for weight, gain in zip(SNR_WEIGHTS, gains.T, strict=True)
    ]


if __name__ == "__main__":
    main()
