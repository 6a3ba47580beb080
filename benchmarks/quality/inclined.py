"""How much of the light of a disc galaxy is kept, from face-on to edge-on, where it looks like a trail.

    python benchmarks/quality/inclined.py --json results/inclined.json

Each frame is an exposure of a few stars (FWHM 1.8 to 5 px) with a Sersic galaxy of index 1 in its middle, at any angle,
its half-light radius along the long axis 8, 20 or 50 px, its axis ratio 0.06 to 1, its surface brightness at that radius,
before seeing, 2, 10 or 50 times the sky's rms. `kept` is bgrem's sources less the true stars, over the light of the galaxy, where this
is above half a rms: the median and the least of the frames. `artefact` is the part of that light in pixels that
are flagged as artefacts, in the mean, `warned` the part of the frames with a warning.
"""

from dataclasses import replace
from time import perf_counter

import numpy as np
from frames import PLAIN, between
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream
from scipy.signal import fftconvolve

from bgrem.background import separate
from bgrem.masks.flags import ARTEFACT
from bgrem.simulate import Scene, draw
from bgrem.simulate.galaxies import SersicGalaxy

RADII, RATIOS, SURFACES = (8.0, 20.0, 50.0), (0.06, 0.12, 0.25, 0.5, 1.0), (2.0, 10.0, 50.0)
SMALLEST_SIDE, RADII_PER_SIDE = 192, 12
FWHM = (1.8, 5.0)
SKY = Scene(**PLAIN, stars=500.0, brightest=300.0, galaxies=0.0, sky=1000.0, gain=1.5)
FAINTEST = 0.5  # sky rms: where the light is compared


def main(argv=None):
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--frames", type=int, default=4, help="of each kind (default: 4)")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    rows = []
    for i, radius in enumerate(RADII):
        for j, ratio in enumerate(RATIOS):
            show_progress(options, f"{radius:g} px, {ratio:g}")
            rngs = [stream(options.seed, i, j, k) for k in range(options.frames)]
            rows.append(kept_light(radius, ratio, model, rngs))
    finish(options, {"light of galaxies kept": rows}, model=model, began=began)


def kept_light(radius, ratio, model, rngs):
    """One line of the table: galaxies of one size and axis ratio."""
    row, artefact, warned = {"radius": radius, "axis ratio": ratio}, [], []
    for surface in SURFACES:
        seen = [_separated(radius, ratio, surface, model, rng) for rng in rngs]
        kept, hit, warnings = zip(*seen, strict=True)
        row[f"{surface:g} rms, median"], row[f"{surface:g}, least"] = np.median(kept), min(kept)
        artefact += hit
        warned += warnings
    return row | {"artefact": np.mean(artefact), "warned": np.mean(warned)}


def _separated(radius, ratio, surface, model, rng):
    """Part of the light that is kept, part of it in artefacts, and whether there was a warning."""
    side = max(SMALLEST_SIDE, round(RADII_PER_SIDE * radius))
    sky = draw(replace(SKY, shape=(side, side), fwhm=float(between(rng, FWHM))), rng)
    light = np.zeros(sky.data.shape, np.float32)
    place = side / 2 + rng.uniform(-3, 3, 2)
    SersicGalaxy(
        place=place, radius=radius, index=1.0, surface=surface, ratio=ratio,
        angle=rng.uniform(0, np.pi), soft=0.5,
    ).add_to(light)  # fmt: skip
    light = fftconvolve(light, sky.psf.image / sky.psf.image.sum(), mode="same").clip(0)
    light *= SKY.sky_rms / SKY.gain
    # The photons of the galaxy, in data units.
    photons = rng.standard_normal(light.shape, dtype=np.float32) * np.sqrt(light / SKY.gain)
    parts = separate(sky.data + light + photons, model=model, maps=())
    there = light > FAINTEST * SKY.sky_rms / SKY.gain
    total = light[there].sum(dtype=np.float64)
    kept = (parts.sources - sky.sources)[there].sum(dtype=np.float64) / total
    hit = light[there & (parts.mask & ARTEFACT > 0)].sum(dtype=np.float64) / total
    return kept, hit, bool(parts.provenance["warnings"])


if __name__ == "__main__":
    main()
