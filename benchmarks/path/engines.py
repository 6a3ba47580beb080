"""What the engines give and take on one tile of a simulated frame, against ONNX Runtime.

    python benchmarks/path/engines.py

Seconds per tile (the best of some runs, in turn), how many times that is ONNX Runtime's speed, and how
far the sources, uncertainty and significance of the frame are from ONNX Runtime's: the sources in
units of the local noise, the uncertainty as a part of itself.
"""

import time
import warnings

import numpy as np
from checks import local_noise, model_of, options, report, simulated

from bgrem.background import separate
from bgrem.inference.engines import ENGINES, EngineWarning
from bgrem.inference.model import load_model


def main():
    parser = options(__doc__)
    parser.add_argument("--side", type=int, help="of the tile in pixels (default: the model's)")
    parser.add_argument(
        "--repeat", type=int, default=4, help="runs of each engine; the best counts"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda; ONNX Runtime's is the CPU")
    chosen = parser.parse_args()
    reference = model_of(chosen)
    side = chosen.side or reference.card.tile
    data = simulated((side, side), seed=3).data
    models = [reference, *others(chosen)]
    seconds = in_turn(models, side, chosen.repeat)
    expected = separate(data, model=reference)
    rows = [
        {
            "engine": str(model.engine),
            "seconds": spent,
            "speed": seconds[0] / spent,
            **differences(separate(data, model=model), expected),
        }
        for model, spent in zip(models, seconds, strict=True)
    ]
    report("engines", rows, chosen, model=reference)


def others(chosen):
    """The model on every other engine that is here."""
    for name in ENGINES:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", EngineWarning)
            model = load_model(
                chosen.model, threads=chosen.threads, engine=name, device=chosen.device
            )
        for warning in told:
            print(warning.message)
        if not told and (name, model.engine.device) != ("onnxruntime", "cpu"):
            yield model


def in_turn(models, side, repeat):
    """Best seconds of each: one after another in each round, as other work slows all alike."""
    x = np.random.default_rng(0).standard_normal((1, 1, side, side)).astype(np.float32)
    best = [np.inf] * len(models)
    for _ in range(repeat + 1):  # the first warms up, and is not the best
        for i, model in enumerate(models):
            began = time.perf_counter()
            model(x, 1.0, np.zeros(len(model.card.frame), np.float32))
            best[i] = min(best[i], time.perf_counter() - began)
    return best


def differences(found, expected):
    noise = local_noise(expected.sources, expected.rms)
    moved = np.abs(found.sources - expected.sources) / noise
    change = np.abs(found.uncertainty / expected.uncertainty - 1)
    rank = np.abs(found.significance - expected.significance)
    return {
        f"{name} {kind}": float(value)
        for name, part in (("sources", moved), ("uncertainty", change), ("significance", rank))
        for kind, value in (("most", part.max()), ("rms", np.sqrt(np.mean(part**2))))
    }


if __name__ == "__main__":
    main()
