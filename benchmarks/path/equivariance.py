"""The answer does not depend on the unit and the bias level of the observer.

    python benchmarks/path/equivariance.py

Largest |remove(a data + b) / a - remove(data)| over the pixels of a float64 frame, in units of the
local noise; at most 1e-3.
"""

import numpy as np
from checks import local_noise, model_of, options, report, simulated

from bgrem import remove_background
from bgrem.background import separate

BAR = 1e-3
FACTORS = (1e-19, 1.0, 1e6)
LEVELS = (-1e4, 0.0, 1.0, 1e4)  # sky rms
SCENES = {
    "MeerLICHT": {},
    "crowded": {"stars": 20000.0, "clustered": 0.5},
    "large galaxies": {"large_galaxies": 8.0},
}


def main():
    parser = options(__doc__)
    parser.add_argument("--side", type=int, default=768, help="of the frames in pixels")
    chosen = parser.parse_args()
    model = model_of(chosen)
    rows = []
    for number, (name, scene) in enumerate(SCENES.items()):
        data = simulated((chosen.side, chosen.side), seed=number, **scene).data.astype(np.float64)
        expected = separate(data, model=model, maps=())
        noise = local_noise(expected.sources, expected.rms)
        for a in FACTORS:
            for b in LEVELS:
                if (a, b) == (1.0, 0.0):
                    continue
                changed = a * data + a * b * expected.provenance["rms"]
                found = remove_background(changed, model=model) / a
                error = np.abs(found - expected.sources) / noise
                largest = float(error.max())
                rows.append(
                    {
                        "frame": name, "a": a, "b / (a rms)": b,
                        "99.9 %": float(np.percentile(error, 99.9)),
                        "largest": largest, "within": largest <= BAR,
                    }
                )  # fmt: skip
    report("equivariance", rows, chosen, model=model, bar=BAR)


if __name__ == "__main__":
    main()
