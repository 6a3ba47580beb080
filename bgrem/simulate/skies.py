"""Light without a centre: the smooth sky, which belongs to the background, and threads, which are sources."""

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

from bgrem.arrays.stamps import add_stamp
from bgrem.arrays.statistics import FWHM_PER_SIGMA
from bgrem.simulate.training_sky import log_uniform, sometimes

__all__ = [
    "background_structure", "draw_sky", "draw_threads", "enlarged", "smooth_field", "texture_field",
]  # fmt: skip

NO_STRUCTURE = 0.15  # chance of a sky that is flat over the whole frame
MANY_KINDS = 0.2  # chance of a frame in which each kind of sky is twice as likely
THREAD_STEP = 0.5  # px between the places of a thread
LUMP_GRID = 16  # px between the samples of lumps


def smooth_field(shape, rng, *, waves=2.0):
    """Random smooth field of zero mean and unit standard deviation, (ny, nx) float32.

    A sum of products of cosines: cheap, without edges, and as smooth as asked for.

    Parameters
    ----------
    shape : tuple of int
    rng : numpy.random.Generator
    waves : float
        Largest number of waves across the image.
    """
    terms = 4
    rows = _cosines(shape[0], rng, terms, waves)
    columns = _cosines(shape[1], rng, terms, waves)
    field = rows.T @ rng.standard_normal((terms, terms)) @ columns
    return _standardised(field)


def _cosines(size, rng, terms, waves):
    """Cosines of random frequency and phase, (terms, size) float64."""
    frequency = rng.uniform(0, waves, (terms, 1))
    phase = rng.uniform(0, 2 * np.pi, (terms, 1))
    return np.cos(2 * np.pi * frequency * np.arange(size) / size + phase)


def texture_field(shape, rng, *, slope=3.0, smallest=8.0, largest=np.inf):
    """Random field of power spectrum k**-slope, zero mean, unit deviation, (ny, nx) float32.

    Interstellar dust seen in emission has a slope of 2.9 to 3.2
    (Gautier et al. 1992, AJ 103, 1313; Miville-Deschenes et al. 2007, A&A 469, 595).

    Parameters
    ----------
    smallest, largest : float
        Scales in pixels outside which there is no structure.
    """
    ny, nx = shape
    k = np.hypot(np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx)[None, :])
    k[0, 0] = 1.0
    amplitude = k ** (-slope / 2) * np.exp(-0.5 * (k * smallest) ** 2) * (k > 1.0 / largest)
    amplitude[0, 0] = 0.0
    phases = rng.standard_normal(k.shape) + 1j * rng.standard_normal(k.shape)
    return _standardised(np.fft.irfft2(amplitude * phases, s=shape))


def _standardised(field):
    field = field - field.mean()
    return (field / max(field.std(), 1e-12)).astype(np.float32)


def background_structure(scene, rng):
    """Additive structure of the background in units of the sky's rms, (ny, nx) float32.

    Gradients and moonlight, fringes, ghosts and scattered light, cirrus, what flat fields and sky
    subtraction leave, the glow of amplifiers at the detector's edges: each of the strength that
    the scene states.
    """
    shape = scene.shape
    out = np.zeros(shape, np.float32)
    if scene.gradient:
        out += np.float32(scene.gradient) * _gradient(shape, rng)
    if scene.smooth_sky:
        out += np.float32(scene.smooth_sky) * smooth_field(shape, rng)
    if scene.fringes:
        out += np.float32(scene.fringes) * _fringes(shape, rng, scene.fringe_period)
    if scene.cirrus:
        out += np.float32(scene.cirrus) * texture_field(shape, rng, smallest=24.0)
    if scene.mottle:
        out += np.float32(scene.mottle) * texture_field(
            shape, rng, slope=2.0, smallest=8.0, largest=200.0
        )
    if scene.glow:
        out += np.float32(scene.glow) * _edge_glow(shape, rng)
    for _ in range(rng.poisson(scene.ghosts * shape[0] * shape[1] / 1e6)):
        out += np.float32(scene.ghost_amplitude) * _ghost(shape, rng)
    return out


def _gradient(shape, rng):
    """Plane of random direction that rises by 1 over 1000 pixels."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.ogrid[: shape[0], : shape[1]]
    x = x - shape[1] / 2
    y = y - shape[0] / 2
    return ((x * np.cos(angle) + y * np.sin(angle)) / 1000.0).astype(np.float32)


def _fringes(shape, rng, period):
    """Interference fringes: a wave whose phase wanders over the frame, amplitude 1."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.ogrid[: shape[0], : shape[1]]
    phase = 2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period
    wander = 3.0 * smooth_field(shape, rng, waves=3.0)
    return np.sin(phase.astype(np.float32) + wander)


def _edge_glow(shape, rng):
    """Light of the readout's amplifiers: fades away from one or two edges, height 1."""
    out = np.zeros(shape, np.float32)
    for axis in rng.permutation(2)[: rng.integers(1, 3)]:
        distance = np.arange(shape[axis], dtype=np.float32)
        distance = distance[::-1] if rng.random() < 0.5 else distance
        profile = np.exp(-distance / np.float32(10 ** rng.uniform(0.7, 2.2)))
        out += profile[:, None] if axis == 0 else profile[None, :]
    return out


def _ghost(shape, rng):
    """Out-of-focus reflection of a bright star: a soft ring with a dark middle, height 1."""
    radius = rng.uniform(40.0, 300.0)
    width = rng.uniform(0.05, 0.2) * radius
    hole = rng.uniform(0.0, 0.5) * radius
    y, x = np.ogrid[: shape[0], : shape[1]]
    r = np.hypot(x - rng.uniform(0, shape[1]), y - rng.uniform(0, shape[0])).astype(np.float32)
    outer = 0.5 * (1.0 - np.tanh((r - radius) / width))
    inner = 0.5 * (1.0 + np.tanh((r - hole) / width)) if hole > 0 else 1.0
    return outer * inner


def draw_threads(shape, rng, number, fwhm):
    """Filaments, rings, arcs and tails before the seeing, in units of the sky's rms, (ny, nx) float32.

    Unlike the trail of a satellite they bend, or fade along their length.

    Parameters
    ----------
    shape : tuple of int
    rng : numpy.random.Generator
    number : int
    fwhm : float
        Of the seeing in pixels: after it their brightest places have 0.5 to 100 times the sky's rms.
    """
    out = np.zeros(shape, np.float32)
    for _ in range(number):
        width = log_uniform(rng, 0.3, 6.0)
        seen = np.hypot(width, fwhm / FWHM_PER_SIGMA)
        y, x, light = _curve(rng)
        places = rng.uniform(0, shape, 2)
        # Some are side by side, as the filaments of a remnant.
        for offset in rng.normal(0, log_uniform(rng, 4.0, 30.0), (rng.choice([1, 1, 1, 3, 6]), 2)):
            peak = log_uniform(rng, 0.5, 100.0)
            line = THREAD_STEP * peak * np.sqrt(2 * np.pi) * seen
            top, left = places + offset
            _add_thread(out, y + top, x + left, line * light, width)
    return out


def _curve(rng):
    """Places along a curve, THREAD_STEP px apart, about its middle, and the light there, at most 1."""
    length = log_uniform(rng, 20.0, 600.0)
    along = np.arange(0.0, length, THREAD_STEP)
    part = along / length
    kind = rng.choice(["ring", "arc", "filament", "tail"])
    if kind == "ring":
        angle = 2 * np.pi * part
    elif kind == "filament":
        waves = length / log_uniform(rng, 40.0, 300.0, 2)[:, None]
        phase = 2 * np.pi * (waves * part + rng.random((2, 1)))
        angle = (rng.uniform(0.2, 0.8, (2, 1)) * np.sin(phase)).sum(axis=0)
    else:
        angle = part * rng.uniform(0.5, 3.0) if kind == "arc" else part * rng.uniform(0.0, 0.5)
    angle = angle + rng.uniform(0, 2 * np.pi)
    y, x = (THREAD_STEP * np.cumsum(turned(angle)) for turned in (np.sin, np.cos))
    light = 1 + rng.uniform(0, 0.9) * np.cos(2 * np.pi * (part * rng.integers(1, 6) + rng.random()))
    if kind == "tail":
        light = light * np.exp(-part * rng.uniform(2.0, 5.0))
    if kind != "ring":
        light = light * np.clip(np.minimum(part, 1 - part) / rng.uniform(0.02, 0.4), 0, 1)
    return y - y.mean(), x - x.mean(), light / light.max()


def _add_thread(image, y, x, light, width):
    """Add light at some places, smoothed by a Gaussian of a deviation, in place."""
    reach = int(np.ceil(4 * width)) + 1
    low = [int(np.floor(place.min())) - reach for place in (y, x)]
    sides = [
        int(np.ceil(place.max())) + reach + 2 - start
        for place, start in zip((y, x), low, strict=True)
    ]
    stamp = np.zeros(sides, np.float32)
    row, column = np.floor(y).astype(int), np.floor(x).astype(int)
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - (y - row)) * np.abs(1 - right - (x - column))
            np.add.at(stamp, (row + down - low[0], column + right - low[1]), share * light)
    add_stamp(image, gaussian_filter(stamp, width), low[1], low[0])


def draw_sky(rng, shape):
    """Random sky of a whole frame in units of the sky's rms, (ny, nx) float32.

    Each kind of sky in `SKIES` has its own chance to be absent and its own strength. The sky's
    mean level is about 0.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : tuple of int
        (ny, nx) in pixels.
    """
    sky = np.zeros(shape, np.float32)
    if rng.random() < NO_STRUCTURE:
        return sky
    likelier = 2.0 if rng.random() < MANY_KINDS else 1.0
    for kind, (chance, weakest, strongest) in SKIES.items():
        strength = sometimes(rng, likelier * chance, weakest, strongest)
        if strength:
            sky += np.float32(strength) * kind(shape, rng)
    return sky


def enlarged(coarse, shape):
    """A coarse image by linear interpolation, its corners on those of the result, float32."""
    rows, columns = (_linear_weights(*sizes) for sizes in zip(coarse.shape, shape, strict=True))
    return rows @ np.asarray(coarse, np.float32) @ columns.T


@lru_cache(maxsize=32)
def _linear_weights(coarse, fine):
    """Weights of the coarse samples in each pixel of a line, (fine, coarse) float32."""
    place = np.linspace(0, coarse - 1, fine)
    weights = 1.0 - np.abs(place[:, None] - np.arange(coarse))
    return np.clip(weights, 0.0, None).astype(np.float32)


def _bowl(shape, rng):
    """Vignetting or moonlight: quadratic around a place in or near the frame, range 1."""
    ny, nx = shape
    y, x = np.ogrid[:ny, :nx]
    centre_y, centre_x = rng.normal(0.5, 0.3, 2)
    stretch = np.exp(rng.normal(0.0, 0.3))
    bowl = stretch * (y / ny - centre_y) ** 2 + (x / nx - centre_x) ** 2 / stretch
    bowl -= bowl.mean()
    return (rng.choice([-1.0, 1.0]) * bowl / np.ptp(bowl)).astype(np.float32)


def _lumps(shape, rng):
    """Residuals of flat fields and scattered light, 100 to 500 px wide, unit deviation."""
    smallest = log_uniform(rng, 100.0, 500.0)
    slope = rng.uniform(2.0, 5.0)
    # The field is periodic: half of what is drawn is left out.
    drawn = [max(2 * size // LUMP_GRID, 8) for size in shape]
    lumps = texture_field(drawn, rng, slope=slope, smallest=smallest / LUMP_GRID / 2)
    lumps = lumps[: drawn[0] // 2, : drawn[1] // 2]
    lumps = (lumps - lumps.mean()) / max(lumps.std(), 1e-6)
    return enlarged(lumps, shape)


def _corner_glow(shape, rng):
    """Light of an amplifier in a corner, height 1."""
    y, x = (np.arange(size, dtype=np.float32) for size in shape)
    y, x = (axis[::-1] if rng.random() < 0.5 else axis for axis in (y, x))
    width = np.float32(log_uniform(rng, 20.0, 250.0))
    return np.exp(-np.hypot(y[:, None], x[None, :]) / width)


def _glowing_sides(shape, rng):
    """Light along two opposite edges, as in raw frames of some cameras, height 1."""
    axis = rng.integers(2)
    distance = np.arange(shape[axis], dtype=np.float32)
    width = np.float32(log_uniform(rng, 3.0, 150.0))
    weaker = np.float32(rng.uniform(0.2, 1.0))
    profile = np.exp(-distance / width) + weaker * np.exp(-distance[::-1] / width)
    profile = profile[::-1] if rng.random() < 0.5 else profile
    return np.broadcast_to(profile[:, None] if axis == 0 else profile[None, :], shape)


def _amplifiers(shape, rng):
    """Levels of amplifiers, chips or pointings side by side, unit deviation; the frame may be a cut-out."""
    down, across = (_sections(size, rng) for size in shape)
    single = rng.integers(3)  # both axes, or one of them, divide the frame
    down, across = down * (single != 1), across * (single != 2)
    levels = rng.standard_normal((down[-1] + 1, across[-1] + 1)).astype(np.float32)
    out = levels[down[:, None], across[None, :]]
    return out - out.mean()


def _sections(size, rng):
    """Numbers, from 0, of the sections of an axis at each of its pixels: two of them, or up to five."""
    if rng.random() < 0.6:
        edges = np.array([0.5 if rng.random() < 0.6 else rng.uniform(0.1, 0.9)])
    else:
        edges = (np.arange(1, rng.integers(2, 6)) + rng.uniform(-0.3, 0.3)) / rng.uniform(2, 5)
    return np.count_nonzero(np.arange(size)[:, None] >= edges * size, axis=1)


def _random_fringes(shape, rng):
    """Fringes of 15 to 120 px, amplitude 1."""
    return _fringes(shape, rng, log_uniform(rng, 15.0, 120.0))


def _dust_rings(shape, rng):
    """Shadows of dust out of focus that the flat field did not remove, depth up to 1."""
    out = np.zeros(shape, np.float32)
    obscuration = rng.uniform(0.0, 0.6)
    sign = rng.choice([-1.0, -1.0, 1.0])
    for _ in range(1 + rng.poisson(4.0)):
        radius = log_uniform(rng, 8.0, 80.0)
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        part, r = _around(shape, y, x, 1.3 * radius)
        soft = 0.06 * radius + 0.5
        ring = np.tanh((radius - r) / soft)
        if obscuration * radius > 2.0:
            ring = np.minimum(ring, np.tanh((r - obscuration * radius) / soft))
        out[part] += np.float32(sign * rng.uniform(0.2, 1.0)) * (0.5 + 0.5 * ring)
    return out


def _around(shape, y, x, reach):
    """The part of an image within `reach` of a place, and the distances from it in there."""
    rows, columns = (
        slice(max(int(place - reach), 0), min(int(place + reach) + 2, size))
        for place, size in zip((y, x), shape, strict=True)
    )
    down = np.arange(rows.start, rows.stop, dtype=np.float32) - np.float32(y)
    along = np.arange(columns.start, columns.stop, dtype=np.float32) - np.float32(x)
    return (rows, columns), np.hypot(down[:, None], along[None, :])


def _star_outside(shape, rng):
    """Scattered light of a star beyond an edge of the frame, height 1."""
    ny, nx = shape
    distance = log_uniform(rng, 10.0, 500.0)
    y, x = rng.uniform(0, ny), rng.uniform(0, nx)
    y, x = [(-distance, x), (ny + distance, x), (y, -distance), (y, nx + distance)][rng.integers(4)]
    rows, columns = np.arange(ny, dtype=np.float32), np.arange(nx, dtype=np.float32)
    r = np.hypot(rows[:, None] - np.float32(y), columns[None, :] - np.float32(x))
    core = np.float32(log_uniform(rng, 10.0, 200.0))
    glow = (1 + (r / core) ** 2) ** np.float32(-0.5 * rng.uniform(1.5, 3.5))
    return glow / glow.max()


#: Kinds of sky: the chance that a frame has it, and the range of its strength in sky rms.
SKIES = {
    _gradient: (0.6, 0.02, 25.0),
    _bowl: (0.4, 0.02, 10.0),
    smooth_field: (0.4, 0.02, 1.5),
    _lumps: (0.45, 0.02, 1.0),
    _edge_glow: (0.15, 0.1, 30.0),
    _glowing_sides: (0.08, 0.1, 30.0),
    _corner_glow: (0.08, 0.1, 30.0),
    _amplifiers: (0.2, 0.02, 5.0),
    _random_fringes: (0.2, 0.05, 1.5),
    _dust_rings: (0.12, 0.02, 0.3),
    _star_outside: (0.1, 0.1, 5.0),
    _ghost: (0.12, 0.05, 2.0),
}
