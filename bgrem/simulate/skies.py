"""The smooth sky: what lies behind the sources and belongs to the background."""

import numpy as np

__all__ = ["background_structure", "smooth_field", "texture_field"]


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
