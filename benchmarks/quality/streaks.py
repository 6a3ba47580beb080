"""Where the light of trails, bleeding columns, spikes and trailed stars goes.

    python benchmarks/quality/streaks.py --json results/streaks.json

Frames of 512 x 512 pixels with stars and galaxies (FWHM 3 px) and photon noise. Light that belongs to the noise: a
*satellite* (a line across the frame, as wide as the PSF), a *flashing* one (its brightness changes by all of it, every 40
to 200 pixels), a *meteor* (3 to 8 pixels wide in sigma, brightest in its middle third), *bleeding* (a column beside a
saturated star, 40 to 300 pixels long). `in sources` is the part of its light that the sources have beyond the true
sources, of pixels where it is above 0.3 sky rms; `in background` that of the background beyond the true level. Light
that belongs to the sources: *spikes* (four arms of a bright star, in pixels away from its core) and *trailed stars*
(drawn out over 8 pixels); `in sources` is then the part that the sources keep. `warned` is the part of the frames with a
warning about trails of stars. Medians and extremes over frames; `height` is the highest pixel of the light in sky rms.
"""

from time import perf_counter

import numpy as np
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream

from bgrem.background import separate
from bgrem.simulate import Scene
from bgrem.simulate.drawing import draw_sources, observe, psf_of

SIDE, FWHM, FAINTEST = 512, 3.0, 0.3
HEIGHTS = {"faint": (0.7, 3.0), "bright": (3.0, 100.0)}  # sky rms
KINDS = ("satellite", "flashing", "meteor", "bleeding", "spikes", "trailed stars")
CLEAN = dict.fromkeys(
    ("hot_pixels", "warm_pixels", "dead_pixels", "bad_columns", "satellite_trails", "large_galaxies", "discs",
     "gradient", "ghosts", "vignetting", "edge_strips", "gaps", "cosmic_rays", "aureole", "spikes"), 0.0
)  # fmt: skip
SATURATED, SPIKE_CORE = 400.0, 5.0  # sky rms; FWHM


def main(argv=None):
    """Run the command."""
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--frames", type=int, default=6, help="of each kind (default: 6)")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    rows = []
    for number, kind in enumerate(KINDS):
        show_progress(options, kind)
        for strength, heights in HEIGHTS.items() if number < 3 else [("bright", HEIGHTS["bright"])]:
            frames = [
                _measured(kind, heights, stream(options.seed, 25, number, len(strength), i), model)
                for i in range(options.frames)
            ]
            rows.append({"light": f"{strength} {kind}" if number < 3 else kind} | _row(frames))
    finish(options, {"where the light goes": rows}, model=model, began=began)


def _measured(kind, heights, rng, model):
    """Parts of the light in the sources and in the background, and whether trails were warned of."""
    drawn_out = {"trail": 8.0, "spike_angle": 0.3} if kind == "trailed stars" else {}
    scene = Scene(
        shape=(SIDE, SIDE), fwhm=FWHM, stars=1200.0, galaxies=300.0, gain=1.0, bias=0.0, **CLEAN | drawn_out
    )  # fmt: skip
    sources, _ = draw_sources(scene, psf_of(scene), rng)
    rms = scene.sky_rms
    height = rms * np.exp(rng.uniform(*np.log(heights)))
    light, mine = _light(kind, height, rng) if kind != "trailed stars" else (0 * sources, sources)
    belongs = kind in ("spikes", "trailed stars")
    sky = np.full(sources.shape, scene.sky, np.float32)
    seen = observe(scene, (sources + light).astype(np.float32), sky, rng)
    parts = separate(seen.data, model=model, maps=())
    where = mine > FAINTEST * rms
    expected = sources + light if belongs else sources
    extra = (parts.sources - expected)[where].sum() / mine[where].sum()
    lost = (parts.background - scene.sky)[where].sum() / mine[where].sum()
    warned = any("trail" in line for line in parts.provenance.warnings)
    return extra + belongs, lost, warned, mine.max() / rms


def _light(kind, height, rng):
    """Light of a kind, and the part of it that is judged, (ny, nx) each, in data units."""
    y, x = np.indices((SIDE, SIDE), dtype=np.float64)
    if kind in ("spikes", "bleeding"):
        return _beside_a_star(kind, height, rng, x, y)
    angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.3, 0.3) * SIDE
    along = (x - SIDE / 2) * np.cos(angle) + (y - SIDE / 2) * np.sin(angle)
    across = (y - SIDE / 2) * np.cos(angle) - (x - SIDE / 2) * np.sin(angle) - offset
    sigma = rng.uniform(3.0, 8.0) if kind == "meteor" else FWHM / 2.3548
    strength = 1.0
    if kind == "flashing":
        strength = 0.5 + 0.5 * np.sin(2 * np.pi * along / rng.uniform(40.0, 200.0))
    elif kind == "meteor":
        strength = np.clip(1.5 - np.abs(along) / (0.25 * SIDE), 0.0, 1.0)
    light = height * strength * np.exp(-0.5 * (across / sigma) ** 2)
    return light, light


def _beside_a_star(kind, height, rng, x, y):
    """A bright star with spikes, or a saturated one whose column bleeds."""
    column, row = rng.integers(150, SIDE - 150, 2)
    radius = np.hypot(x - column, y - row)
    peak = 60.0 * height
    star = peak * (1 + (radius / (0.98 * FWHM)) ** 2) ** -3
    if kind == "bleeding":
        length = rng.integers(40, 300)
        charge = np.where((x == column) & (np.abs(y - row) < length / 2), SATURATED * height, 0.0)
        added = np.where(radius > 3 * FWHM, charge, 0.0)
        return np.minimum(star, SATURATED * height) + added, added
    angle = rng.uniform(0, np.pi / 2)
    arms = np.zeros_like(star)
    for turn in (angle, angle + np.pi / 2):
        along = np.abs((x - column) * np.cos(turn) + (y - row) * np.sin(turn))
        across = (y - row) * np.cos(turn) - (x - column) * np.sin(turn)
        arms += height * np.exp(-along / 40.0) * np.exp(-0.5 * (across / 1.3) ** 2)
    return star + arms, np.where(radius > SPIKE_CORE * FWHM, arms, 0.0)


def _row(frames):
    inside, background, warned, heights = map(np.array, zip(*frames, strict=True))
    return {
        "height": f"{heights.min():.1f}-{heights.max():.0f}",
        "in sources": float(np.median(inside)), "least": float(inside.min()), "most": float(inside.max()),
        "in background": float(np.median(background)), "warned": float(warned.mean()),
    }  # fmt: skip


if __name__ == "__main__":
    main()
