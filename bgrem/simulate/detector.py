"""The detector: light as it sees it, photon and read noise, pattern, defects and cosmic rays.

All images are in electrons unless a name says otherwise.
"""

import numpy as np
from scipy.ndimage import convolve1d

from bgrem.arrays.stamps import add_stamp, moved_psf

__all__ = [
    "add_light", "amplifier_pattern", "cosmic_rays", "defects", "edge_strips", "light_of_stars",
    "line_pattern", "photon_noise", "read_noise", "resampled", "saturate", "trails",
]  # fmt: skip

FEW_ELECTRONS = 1e3  # below which the photons of added light are counted one by one


def photon_noise(expected, rng):
    """Photon noise of an expected image, (ny, nx) float32, zero mean.

    Exact Poisson draws below 30 electrons, the normal limit above.
    """
    expected = np.maximum(expected, 0.0)
    noise = rng.standard_normal(expected.shape, dtype=np.float32)
    noise *= np.sqrt(expected)
    few = expected < 30.0
    noise[few] = rng.poisson(expected[few]) - expected[few]
    return noise


def read_noise(scene, rng):
    """Read noise with the tails of noisy pixels, (ny, nx) float32.

    A fraction of the pixels draws from Student's t with three degrees of freedom: random
    telegraph signal in CMOS detectors has such tails (Wang et al. 2006, IEEE IEDM, 1).
    """
    noise = rng.standard_normal(scene.shape, dtype=np.float32) * np.float32(scene.read_noise)
    if scene.tail_fraction > 0:
        count = rng.binomial(noise.size, scene.tail_fraction)
        where = rng.integers(0, noise.size, count)
        tails = rng.standard_t(3, count) * scene.tail_strength * scene.sky_rms
        noise.flat[where] += tails.astype(np.float32)
    return noise


def resampled(noise, correlation, ratio=1.0, shift=(0.0, 0.0), drift=0.0):
    """Noise as a resampled or drizzled frame has it, of unchanged standard deviation.

    Parameters
    ----------
    noise : ndarray, (ny, nx) float32
    correlation : float
        Standard deviation in pixels of the interpolation kernel; bilinear resampling has
        about 0.4, drizzling up to 1 (Fruchter & Hook 2002, PASP 114, 144). Below zero: the
        side lobes of a sharpening kernel, which leaves neighbours with a negative correlation.
    ratio : float
        The kernel's width along y over that along x.
    shift : tuple of float
        Part of a pixel, along y and x, by which bilinear interpolation moved the image before:
        neighbours share pixels, and none but neighbours.
    drift : float
        Pixels by which the shift grows over 1000 pixels: a scale or a rotation was changed, and
        the noise is lower and smoother where the shift is half a pixel.
    """
    for axis, part in enumerate(shift):
        if part and drift:
            noise = _shifted(noise, part, drift, axis)
        elif part:
            noise = convolve1d(noise, _unit_power(np.array([part, 1 - part, 0.0])), axis=axis)
    for axis, sigma in ((0, correlation * ratio), (1, correlation)):
        if sigma:
            kernel = _smoothing(sigma) if sigma > 0 else np.array([sigma, 1.0, sigma])
            noise = convolve1d(noise, _unit_power(kernel), axis=axis)
    return noise


def _shifted(noise, part, drift, axis):
    """Bilinear interpolation at places that drift along both axes, of unchanged mean variance."""
    along, across = (np.arange(n, dtype=np.float32) / 1000 for n in noise.shape[:: 1 - 2 * axis])
    along, across = (along[:, None], across) if axis == 0 else (along, across[:, None])
    share = (np.float32(part) + np.float32(drift) * (along + np.float32(0.5) * across)) % 1
    moved = (1 - share) * noise + share * np.roll(noise, 1, axis=axis)
    return moved / np.sqrt(np.mean((1 - share) ** 2 + share**2))


def _unit_power(kernel):
    """A kernel that leaves the standard deviation of white noise as it is, float32."""
    return (kernel / np.sqrt((kernel**2).sum())).astype(np.float32)


def _smoothing(sigma):
    reach = int(np.ceil(3 * sigma))
    return np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)


def line_pattern(scene, rng):
    """Row, column, odd/even and mosaic pattern in units of the sky's rms, (ny, nx) float32."""
    ny, nx = scene.shape
    rows = scene.row_noise * rng.standard_normal(ny)
    columns = scene.column_noise * rng.standard_normal(nx)
    if scene.odd_even:
        columns = columns + scene.odd_even * np.where(np.arange(nx) % 2, 0.5, -0.5)
    if rng.random() < 0.3:  # interference: a wave along the readout
        wave = 2 * np.pi * np.arange(ny) / rng.uniform(3.0, 40.0) + rng.uniform(0, 2 * np.pi)
        rows = rows + scene.row_noise * np.sqrt(2) * np.sin(wave)
    pattern = rows.astype(np.float32)[:, None] + columns.astype(np.float32)[None, :]
    if scene.mosaic:  # the four colours of a Bayer matrix, or two amplifiers per axis
        cell = scene.mosaic * rng.standard_normal((2, 2))
        if rng.random() < 0.5:  # the two greens of a Bayer matrix see the same light
            cell[1, 0] = cell[0, 1]
        pattern += np.tile(cell.astype(np.float32), (ny // 2 + 1, nx // 2 + 1))[:ny, :nx]
    return pattern


def amplifier_pattern(scene, rng):
    """Offsets between amplifiers in units of the sky's rms, (ny, nx) float32.

    The scene is a window of random place on a detector that `scene.amplifiers` divide.
    """
    out = np.zeros(scene.shape, np.float32)
    if not scene.amplifier_step:
        return out
    for axis in (0, 1):
        size = scene.shape[axis]
        for edge in rng.integers(0, size, rng.poisson(size / scene.amplifier_size[axis])):
            step = np.float32(scene.amplifier_step * rng.standard_normal())
            part = [slice(None), slice(None)]
            part[axis] = slice(edge, None)
            out[tuple(part)] += step
    return out


def defects(scene, rng):
    """Hot, warm and dead pixels, dark pattern, bad columns and bands of them.

    Returns
    -------
    added : ndarray, (ny, nx) float32
        What the defects add, in units of the sky's rms.
    dead : ndarray, (ny, nx) bool
        Pixels and columns that saw no light.
    """
    ny, nx = scene.shape
    pixels = ny * nx / 1e6
    added = np.zeros(scene.shape, np.float32)
    for density, scale in ((scene.hot_pixels, 60.0), (scene.warm_pixels, 6.0)):
        count = rng.poisson(density * pixels)
        y, x = rng.integers(0, ny, count), rng.integers(0, nx, count)
        # Dark frames that were hotter than the image leave holes.
        sign = np.where(rng.random(count) < scene.holes, -1.0, 1.0)
        added[y, x] += (sign * scale * rng.lognormal(0.0, 1.0, count)).astype(np.float32)
        _spill(added, y, x, rng)
    if scene.dark_fraction:
        count = rng.binomial(added.size, scene.dark_fraction)
        where = rng.integers(0, added.size, count)
        sign = -1.0 if rng.random() < scene.holes else 1.0
        dark = sign * scene.dark_strength * rng.lognormal(0, 1, count)
        added.flat[where] += dark.astype(np.float32)
    for column in rng.integers(0, nx, rng.poisson(scene.bad_columns * nx / 1000)):
        start, stop = _column_run(ny, rng)
        # Most are one pixel wide; stacks of dithered exposures widen them.
        width = 1 + rng.poisson(0.5)
        height = rng.normal(0.0, 1.0) * 10 ** rng.uniform(-0.3, 1.7)
        added[start:stop, column : column + width] += np.float32(height)
    dead = np.zeros(scene.shape, bool)
    count = rng.poisson(scene.dead_pixels * pixels)
    dead[rng.integers(0, ny, count), rng.integers(0, nx, count)] = True
    if rng.random() < 0.3 * scene.bad_columns:
        start, stop = _column_run(ny, rng)
        dead[start:stop, rng.integers(nx)] = True
    if scene.bands:
        for column in rng.integers(0, nx, rng.poisson(scene.bands * nx / 1000)):
            start, stop = _column_run(ny, rng)
            width = int(10 ** rng.uniform(0.5, 1.6))
            height = rng.normal(0.0, 1.0) * 10 ** rng.uniform(-0.5, 0.7)
            added[start:stop, column : column + width] += np.float32(height)
    return added, dead


def _spill(added, y, x, rng):
    """A third of the hot pixels leak into a neighbour."""
    leaking = rng.random(len(y)) < 0.33
    axis = rng.integers(0, 2, len(y))
    sign = rng.choice([-1, 1], len(y))
    yy = np.clip(y + np.where(axis == 0, sign, 0), 0, added.shape[0] - 1)
    xx = np.clip(x + np.where(axis == 1, sign, 0), 0, added.shape[1] - 1)
    share = rng.uniform(0.05, 0.6, len(y)).astype(np.float32)
    added[yy[leaking], xx[leaking]] += share[leaking] * added[y[leaking], x[leaking]]


def _column_run(ny, rng):
    """A defect column runs from a trap to the edge, or over the whole height."""
    if rng.random() < 0.5:
        return 0, ny
    edge = int(rng.integers(0, ny))
    return (edge, ny) if rng.random() < 0.5 else (0, edge)


def cosmic_rays(scene, rng):
    """Charge of cosmic rays: points, straight tracks and worms, (ny, nx) float32 electrons.

    A minimum ionising particle frees about 80 electrons per micrometre of silicon, its track's
    length follows its angle; electrons from radioactive traces wander as worms
    (Groom 2002, Exp. Astron. 14, 45; Smith et al. 2002, SPIE 4669, 172).
    """
    ny, nx = scene.shape
    out = np.zeros((ny, nx), np.float32)
    for _ in range(rng.poisson(scene.cosmic_rays * ny * nx / 1e6)):
        kind = rng.choice(3, p=(0.35, 0.4, 0.25))
        x, y = _track(rng, kind)
        x, y = x + rng.uniform(0, nx), y + rng.uniform(0, ny)
        charge = 10 ** rng.uniform(0.5, 2.5) * max(scene.sky_rms, 1.0)
        share = charge * rng.gamma(4.0, 0.25, len(x)) / max(len(x) / 4.0, 1.0)
        _deposit(out, x, y, share)
    return _diffused(out, scene.charge_diffusion)


def _track(rng, kind):
    """Points every quarter pixel along a track: 0 a point, 1 a line, 2 a worm."""
    if kind == 0:
        spread = rng.uniform(0.0, 0.5)
        return rng.normal(0, spread, 4), rng.normal(0, spread, 4)
    length = rng.exponential(12.0 if kind == 1 else 20.0) + 1.0
    steps = max(int(4 * length), 4)
    turn = 0.02 if kind == 1 else 0.35
    angle = rng.uniform(0, 2 * np.pi) + np.cumsum(turn * rng.standard_normal(steps))
    return np.cumsum(0.25 * np.cos(angle)), np.cumsum(0.25 * np.sin(angle))


def _deposit(image, x, y, charge):
    """Add charge at positions, each to its pixel; what falls outside is lost."""
    row, column = np.floor([y, x]).astype(int)
    ok = (column >= 0) & (row >= 0) & (column < image.shape[1]) & (row < image.shape[0])
    np.add.at(image, (row[ok], column[ok]), charge[ok].astype(np.float32))


def _diffused(image, sigma):
    """Spread of charge on its way to the pixels, standard deviation in pixels."""
    if sigma <= 0 or not image.any():
        return image
    kernel = np.exp(-0.5 * (np.arange(-1, 2) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    return convolve1d(convolve1d(image, kernel, axis=0), kernel, axis=1)


def trails(scene, rng):
    """Satellite and aircraft trails in units of the sky's rms, (ny, nx) float32.

    Straight, of the point-spread function's width or wider (out of focus), some of them dashed
    by tumbling.
    """
    ny, nx = scene.shape
    out = np.zeros((ny, nx), np.float32)
    y, x = np.ogrid[:ny, :nx]
    for _ in range(rng.poisson(scene.satellite_trails * ny * nx / 1e6)):
        angle = rng.uniform(0, np.pi)
        across = (x - rng.uniform(0, nx)) * np.sin(angle) - (y - rng.uniform(0, ny)) * np.cos(angle)
        width = rng.uniform(0.45, 1.2) * scene.fwhm
        height = 10 ** rng.uniform(-0.3, 2.0)
        profile = np.exp(-0.5 * (across / width) ** 2)
        if rng.random() < 0.3:
            along = x * np.cos(angle) + y * np.sin(angle)
            profile = profile * (1 + np.sin(2 * np.pi * along / rng.uniform(20, 200)))
        out += (height * profile).astype(np.float32)
    return out


def edge_strips(scene, rng):
    """Strips along the edges that saw no light, or less than the frame: overscan, dark borders.

    Returns
    -------
    dark : ndarray, (ny, nx) bool
        Where no light fell.
    level : ndarray, (ny, nx) float32
        What the strips' level differs by from the sky's, in units of the sky's rms, also where
        light fell: the first rows and columns of many detectors glow, or respond less.
    """
    dark = np.zeros(scene.shape, bool)
    level = np.zeros(scene.shape, np.float32)
    for _ in range(rng.poisson(scene.edge_strips)):
        axis, end = rng.integers(0, 2, 2)
        width = int(np.exp(rng.uniform(0.0, np.log(0.2 * scene.shape[axis]))))
        part = [slice(None), slice(None)]
        part[axis] = slice(0, width) if end else slice(scene.shape[axis] - width, None)
        if rng.random() < 0.5:
            dark[tuple(part)] = True
        level[tuple(part)] = rng.choice([-1.0, -1.0, 1.0]) * 10 ** rng.uniform(-0.3, 2.5)
    return dark, level


def saturate(electrons, full_well, rng):
    """Clip at the full well; the excess bleeds along columns.

    Parameters
    ----------
    electrons : ndarray, (ny, nx) float32
    full_well : float
        In electrons; 0 for none.
    rng : numpy.random.Generator

    Returns
    -------
    image : ndarray, (ny, nx) float32
    saturated : ndarray, (ny, nx) bool
        Pixels at the full well by their own light.
    bled : ndarray, (ny, nx) bool
        Pixels that took charge from others.
    """
    saturated = electrons > full_well if full_well > 0 else np.zeros(electrons.shape, bool)
    bled = np.zeros(electrons.shape, bool)
    if not saturated.any():
        return electrons, saturated, bled
    image = np.minimum(electrons, np.float32(full_well))
    if rng.random() < 0.6:  # anti-blooming gates and CMOS detectors do not bleed
        for column in np.flatnonzero(saturated.any(axis=0)):
            _bleed(image[:, column], electrons[:, column], bled[:, column], full_well)
    return image, saturated, bled & ~saturated


def _bleed(image, electrons, bled, full_well):
    """Spread each run's excess evenly up and down its column, in place."""
    over = np.flatnonzero(electrons > full_well)
    for run in np.split(over, np.flatnonzero(np.diff(over) > 1) + 1):
        excess = float((electrons[run] - full_well).sum()) * 0.5
        for start, step in ((run[0] - 1, -1), (run[-1] + 1, 1)):
            left, row = excess, start
            while left > 0 and 0 <= row < len(image):
                room = full_well - image[row]
                taken = min(left, max(room, 0.0))
                if taken > 0:
                    image[row] += taken
                    bled[row] = True
                left -= max(taken, 1e-3 * full_well)
                row += step


def light_of_stars(shape, x, y, flux, psf):
    """Noiseless image of stars.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) in pixels.
    x, y : (n,) array
        Positions in pixels, 0-based, pixel centres at integers.
    flux : (n,) array
        Flux of each star; the PSF times it is added.
    psf : (k, k) array
        k odd.

    Returns
    -------
    (ny, nx) float64
    """
    light = np.zeros(shape)
    for column, row, amount in zip(x, y, flux, strict=True):
        stamp, left, bottom = moved_psf(psf, column, row)
        add_stamp(light, amount * stamp, left, bottom)
    return light


def add_light(data, light, *, rng, gain=None, step=0.0):
    """An image with more light in it.

    Parameters
    ----------
    data : (ny, nx) array
        As observed.
    light : (ny, nx) array
        Expected light, data units.
    rng : numpy.random.Generator
        Draws its photon noise.
    gain : float, optional
        Electrons per data unit; without it the light comes without photon noise of its own.
    step : float
        Step between possible values of the data; 0 for none.

    Returns
    -------
    (ny, nx) float32
    """
    seen = np.asarray(light, np.float64)
    if gain:
        seen = _counted(np.maximum(seen * gain, 0.0), rng) / gain
    if step:
        # What the rounding of the data took away is not known: a random part of a step stands for
        # it, so that light below half a step is not lost.
        below = rng.uniform(-0.5, 0.5, seen.shape)
        seen = np.rint(seen / step + below) * step
    return (np.asarray(data, np.float64) + seen).astype(np.float32)


def _counted(electrons, rng):
    """Poisson draws, the normal limit where there are many electrons."""
    few = electrons < FEW_ELECTRONS
    drawn = electrons + np.sqrt(electrons) * rng.standard_normal(electrons.shape)
    drawn[few] = rng.poisson(electrons[few])
    return drawn
