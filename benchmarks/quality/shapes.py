"""How much light is kept of thin shapes, which look like the trail of a satellite.

    python benchmarks/quality/shapes.py --json results/shapes.json

Each frame is an exposure of a few stars (FWHM 1.8 to 5 px) with one shape in its middle, at any angle. `kept` is bgrem's
sources less the true stars, over the light of the shape, where this is above half a rms of the sky: the median and the
least of the frames. `artefact` is the part of that light in pixels that are flagged as artefacts, in the mean,
`warned` the part of the frames with a warning.

*Disc galaxies* from face-on to edge-on: Sersic index 1, half-light radius along the long axis 8, 20 or 50 px, axis ratio
0.06 to 1, surface brightness at that radius, before seeing, 2, 10 or 50 times the sky's rms.

*Other shapes*, 3, 15 or 75 times the sky's rms at their brightest: bodies that moved by 2 to 10 FWHM during the exposure,
rings and arcs (their radius and the deviation of their profile in px), filaments, and tails of comets. For comparison the
trail of a satellite, of which nothing should be kept.
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
PEAKS, SIDE = (3.0, 15.0, 75.0), 384
FWHM = (1.8, 5.0)
SKY = Scene(**PLAIN, stars=500.0, brightest=300.0, galaxies=0.0, sky=1000.0, gain=1.5)
FAINTEST = 0.5  # sky rms: where the light is compared


def main(argv=None):
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--frames", type=int, default=6, help="of each kind (default: 6)")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    galaxies, others = [], []
    for i, radius in enumerate(RADII):
        for j, ratio in enumerate(RATIOS):
            show_progress(options, f"{radius:g} px, {ratio:g}")
            side = max(SMALLEST_SIDE, round(RADII_PER_SIDE * radius))
            kinds = {s: (_galaxy, radius, ratio, s) for s in SURFACES}
            row = _line(kinds, side, model, (options, 0, i, j))
            galaxies.append({"radius": radius, "axis ratio": ratio} | row)
    for i, (name, (shape, *sizes)) in enumerate(SHAPES.items()):
        show_progress(options, name)
        kinds = {peak: (_peaked, shape, sizes, peak) for peak in PEAKS}
        others.append({"shape": name} | _line(kinds, SIDE, model, (options, 1, i)))
    tables = {"disc galaxies": galaxies, "other shapes": others}
    finish(options, tables, model=model, began=began)


def _line(kinds, side, model, streams):
    """Columns of a table: kept light for each brightness."""
    options, *numbers = streams
    row, artefact, warned = {}, [], []
    for brightness, kind in kinds.items():
        rngs = (stream(options.seed, *numbers, k) for k in range(options.frames))
        kept, hit, warnings = zip(*(_separated(kind, side, model, g) for g in rngs), strict=True)
        row[f"{brightness:g} rms, median"] = np.median(kept)
        row[f"{brightness:g}, least"] = min(kept)
        artefact += hit
        warned += warnings
    return row | {"artefact": np.mean(artefact), "warned": np.mean(warned)}


def _separated(kind, side, model, rng):
    """Part of the light of a shape that is kept, part of it in artefacts, and whether there was a warning."""
    sky = draw(replace(SKY, shape=(side, side), fwhm=float(between(rng, FWHM))), rng)
    draw_shape, *sizes = kind
    light = draw_shape(sky, rng, *sizes) * SKY.sky_rms / SKY.gain
    # The photons of the shape, in data units.
    photons = rng.standard_normal(light.shape) * np.sqrt(light / SKY.gain)
    parts = separate((sky.data + light + photons).astype(np.float32), model=model, maps=())
    there = light > FAINTEST * SKY.sky_rms / SKY.gain
    total = light[there].sum()
    kept = (parts.sources - sky.sources)[there].sum(dtype=np.float64) / total
    hit = light[there & (parts.mask & ARTEFACT > 0)].sum() / total
    return kept, hit, bool(parts.provenance["warnings"])


def _galaxy(sky, rng, radius, ratio, surface):
    """A disc in units of the sky's rms, (ny, nx) float64."""
    light = np.zeros(sky.data.shape, np.float32)
    SersicGalaxy(
        place=np.array(light.shape) / 2 + rng.uniform(-3, 3, 2), radius=radius, index=1.0,
        surface=surface, ratio=ratio, angle=rng.uniform(0, np.pi), soft=0.5,
    ).add_to(light)  # fmt: skip
    return _seen(light, sky)


def _seen(light, sky):
    return fftconvolve(light, sky.psf.image / sky.psf.image.sum(), mode="same").clip(0)


def _peaked(sky, rng, shape, sizes, peak):
    """A shape whose brightest pixel has `peak` times the sky's rms."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.indices(sky.data.shape) - np.array(sky.data.shape)[:, None, None] / 2.0
    y, x = (axis - rng.uniform(-3, 3) for axis in (y, x))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    light = _seen(shape(along, across, sky.scene.fwhm, *sizes), sky)
    return peak * light / light.max()


def _line_of_light(along, across, fwhm, widths):
    """A body that moved by some FWHM; for an infinite number the trail of a satellite."""
    ends = np.clip(widths * fwhm / 2 + 0.5 - np.abs(along), 0, 1)
    return ends * np.clip(1 - np.abs(across), 0, 1)


def _arc(along, across, _, radius, width, angle):
    distance = np.hypot(along, across)
    turned = np.abs(np.arctan2(across, along)) < angle / 2
    return turned * np.exp(-0.5 * ((distance - radius) / width) ** 2)


def _filament(along, across, _, length, width, wave):
    """A wavy line that fades away."""
    middle = 0.15 * wave * np.sin(2 * np.pi * along / wave)
    return np.exp(-0.5 * ((across - middle) / width) ** 2 - 0.5 * (along / length) ** 2)


def _comet(along, across, _, length, width):
    """A coma, and a tail that widens and fades."""
    distance = np.maximum(np.hypot(along, across), 1)
    wide = width + 0.05 * np.maximum(along, 0)
    tail = np.exp(-along / length - 0.5 * (across / wide) ** 2)
    return 3 / distance * np.exp(-distance / 30) + np.where(along > 0, tail, 0)


SHAPES = {
    "moved by 2 FWHM": (_line_of_light, 2.0),
    "moved by 5 FWHM": (_line_of_light, 5.0),
    "moved by 10 FWHM": (_line_of_light, 10.0),
    "ring 10 1": (_arc, 10.0, 1.0, 7.0),
    "ring 30 1.5": (_arc, 30.0, 1.5, 7.0),
    "ring 60 4": (_arc, 60.0, 4.0, 7.0),
    "arc 30 1": (_arc, 30.0, 1.0, 1.5),
    "arc 80 1": (_arc, 80.0, 1.0, 1.0),
    "filament 60 1.5": (_filament, 60.0, 1.5, 150.0),
    "filament 60 3": (_filament, 60.0, 3.0, 300.0),
    "comet 40 1": (_comet, 40.0, 1.0),
    "comet 80 3": (_comet, 80.0, 3.0),
    "satellite": (_line_of_light, np.inf),
}


if __name__ == "__main__":
    main()
