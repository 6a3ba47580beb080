"""The range of scenes that networks are trained on: far wider than any one telescope."""

from dataclasses import replace

import numpy as np

from bgrem.simulate.scene import Scene

__all__ = ["log_uniform", "random_scene", "random_whole_scene", "sometimes"]

DENSEST_STARS = 1.2e4  # per Mpix
DENSEST_GALAXIES = 3e3  # per Mpix


def random_scene(rng, *, shape=(768, 768)):
    """Draw the description of a random scene.

    Every ingredient has its own chance to be absent and its own random strength, so that a
    network learns what each looks like alone and in company. The ranges bracket what optical and
    near-infrared frames show, from undersampled amateur frames and space telescopes
    (1.2 px) to oversampled mountain sites (8 px), from single photons to deep stacks.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : tuple of int
        (ny, nx) in pixels.

    Returns
    -------
    Scene
    """
    kind = rng.random()
    if kind < 0.12:
        return _survey_scene(rng, shape)
    parts = (_optics, _population, _exposure, _detector, _sky)
    chosen = {"shape": tuple(shape)}
    for part in parts:
        chosen |= part(rng)
    if kind < 0.2:
        chosen |= _undersampled_crowd(rng)
    elif kind < 0.34:
        chosen |= _sharp_stars(rng)
    elif kind < 0.42:
        chosen |= _sharp_camera(rng)
    elif kind < 0.5:
        chosen |= _nearby_galaxies(rng)
    # Stacks are sampled well enough that noise stays sharper than stars.
    width = np.hypot(chosen["fwhm"], chosen.get("diffraction", 0.0))
    share = 0.25 if width < 5.0 else 0.35
    chosen["correlation"] = min(chosen["correlation"], share * width)
    return Scene(**chosen)


def random_whole_scene(rng, shape):
    """Draw stars, small galaxies, optics and detector of a frame for a sky network.

    The data are in units of the sky's rms, the sky's level is 0, and it has no structure: this
    and light wider than stars are drawn by `draw_whole_frame`.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : tuple of int
        (ny, nx) in pixels.

    Returns
    -------
    Scene
    """
    scene = random_scene(rng, shape=shape)
    few, empty = rng.random() < 0.05, rng.random() < 0.15
    rms = log_uniform(rng, 0.15, 3.0) if few else log_uniform(rng, 3.0, 1e3)
    sky = rms**2
    changed = {
        "sky": sky,
        "read_noise": 0.0,
        "gain": rms,
        "bias": -rms,
        "stars": 0.0 if empty else min(scene.stars, DENSEST_STARS),
        "galaxies": 0.0 if empty else min(scene.galaxies, DENSEST_GALAXIES),
        # Rings of an aperture are narrower than what a sky network sees, and slow to draw.
        "fwhm": float(np.clip(np.hypot(scene.fwhm, scene.diffraction), 1.2, 8.0)),
        "diffraction": 0.0,
        "large_galaxies": 0.0,
        "discs": 0.0,
        "nebula": 0.0,
        "threads": 0.0,
        "moving": 0.0,
        "quantisation": 1.0 / rms if few else sometimes(rng, 0.3, 1e-3, 1.0),
        "rms_variation": sometimes(rng, 0.2, 0.02, 0.4),
        "full_well": sky + rms * log_uniform(rng, 30.0, 1e5) if rng.random() < 0.6 else 0.0,
        "edge_strips": sometimes(rng, 0.1, 0.5, 3.0),
        # Their levels do not average to zero: the level of the sky would be undefined.
        "amplifier_step": 0.0,
        "mosaic": 0.0,
        "dark_fraction": min(scene.dark_fraction, 0.01),
    }
    # Two thirds of the scenes have white noise already.
    if few or rng.random() < 0.1:
        changed |= {"correlation": 0.0, "shift_x": 0.0, "shift_y": 0.0, "shift_drift": 0.0}
    return replace(scene, **changed)


def log_uniform(rng, low, high, size=None):
    """A number, or some, even in their logarithm."""
    drawn = np.exp(rng.uniform(np.log(low), np.log(high), size))
    return float(drawn) if size is None else drawn


def sometimes(rng, chance, low, high):
    """A number even in its logarithm, or zero."""
    return log_uniform(rng, low, high) if rng.random() < chance else 0.0


def _survey_scene(rng, shape):
    """The default scene, a MeerLICHT exposure, in other seeing, fields and filters."""
    return Scene(
        shape=tuple(shape),
        fwhm=log_uniform(rng, 3.2, 6.0),
        beta=float(rng.uniform(2.5, 4.0)),
        stars=log_uniform(rng, 300.0, 1e4),
        star_slope=float(rng.uniform(0.6, 1.1)),
        galaxies=log_uniform(rng, 100.0, 2000.0),
        sky=log_uniform(rng, 50.0, 1500.0),
        quantisation=log_uniform(rng, 0.02, 0.3),
        cosmic_rays=log_uniform(rng, 5.0, 200.0),
        hot_pixels=log_uniform(rng, 3.0, 300.0),
        warm_pixels=log_uniform(rng, 5.0, 500.0),
        amplifier_size=(int(rng.integers(500, 5281)), int(rng.integers(500, 1321))),
        gradient=log_uniform(rng, 0.05, 5.0),
    )


def _optics(rng):
    """Seeing, optics and guiding."""
    fwhm = log_uniform(rng, 1.1, 8.0)
    aperture = _aperture(rng, 0.4, 3.0) if rng.random() < 0.2 else {"fwhm": fwhm}
    return aperture | {
        # A quarter is nearly Gaussian: lenses, focal reducers, and other people's simulations.
        "beta": _nearly_gaussian(rng) if rng.random() < 0.25 else float(rng.uniform(2.2, 5.0)),
        "ellipticity": float(np.clip(abs(rng.normal(0, 0.1)), 0, 0.4)),
        "angle": float(rng.uniform(0, np.pi)),
        "trail": sometimes(rng, 0.07, 0.5 * fwhm, 3.0 * fwhm),
        "coma": float(rng.uniform(0.05, 0.4)) if rng.random() < 0.25 else 0.0,
        "tail": float(rng.uniform(0.02, 0.2)) if rng.random() < 0.1 else 0.0,
        "aureole": sometimes(rng, 0.5, 0.002, 0.03),
        "spikes": sometimes(rng, 0.3, 0.001, 0.02),
        "spike_angle": float(rng.uniform(0, np.pi)),
    }


def _nearly_gaussian(rng):
    """Exponent of a Moffat profile without wings to speak of."""
    return log_uniform(rng, 8.0, 100.0)


def _aperture(rng, finest, coarsest):
    """A telescope above the seeing: the image of its aperture, with rings, and its aberrations."""
    diffraction = log_uniform(rng, finest, coarsest)
    aberrations = rng.standard_normal(4) * log_uniform(rng, 0.02, 0.15)
    names = ("defocus", "astigmatism", "trefoil", "lens_coma")
    return {
        # Jitter and the diffusion of charge; both together are no sharper than a pixel.
        "fwhm": max(log_uniform(rng, 0.5, 1.5), 1.0 - diffraction),
        "diffraction": diffraction,
        "obscuration": float(rng.uniform(0.0, 0.4)),
        **{name: float(np.clip(v, -0.5, 0.5)) for name, v in zip(names, aberrations, strict=True)},
    }


def _population(rng):
    """Stars and galaxies, from empty sky to the cores of clusters."""
    if rng.random() < 0.1:
        return _empty_sky(rng)
    crowded = rng.random() < 0.25
    stars = log_uniform(rng, 3e3, 3e4) if crowded else log_uniform(rng, 3.0, 5e3)
    return {
        "stars": stars,
        "star_slope": float(rng.uniform(0.4, 1.4)),
        "clustered": float(rng.uniform(0.2, 0.8)) if rng.random() < 0.08 else 0.0,
        "cluster_radius": log_uniform(rng, 20.0, 150.0),
        "galaxies": 0.0 if rng.random() < 0.35 else log_uniform(rng, 10.0, 6e3),
        "galaxy_slope": float(rng.uniform(0.6, 1.4)),
        "galaxy_radius": log_uniform(rng, 0.6, 4.0),
        "galaxy_scatter": float(rng.uniform(0.2, 0.7)),
        "brightest": log_uniform(rng, 1e2, 1e6),
        "large_galaxies": sometimes(rng, 0.3, 0.5, 5.0),
        "discs": sometimes(rng, 0.3, 0.5, 5.0),
        "nebula": sometimes(rng, 0.15, 0.3, 30.0),
        "nebula_scale": log_uniform(rng, 8.0, 60.0),
        "threads": sometimes(rng, 0.15, 1.0, 20.0),
        "moving": sometimes(rng, 0.15, 1.0, 10.0),
    }


def _undersampled_crowd(rng):
    """Stars of a pixel or two side by side: wide-field and space telescopes on the Milky Way."""
    sharp = {"fwhm": log_uniform(rng, 1.1, 1.9), "diffraction": 0.0}
    return (_aperture(rng, 0.4, 1.2) if rng.random() < 0.6 else sharp) | {
        "trail": 0.0,
        "stars": log_uniform(rng, 5e3, 6e4),
        "star_slope": float(rng.uniform(0.4, 0.9)),
        "brightest": log_uniform(rng, 1e3, 1e6),
    }


def _sharp_stars(rng):
    """Stars of one to two pixels, few or many: wide-field lenses, one colour of a mosaic, space telescopes.

    Without wings half of them: what the optics of a lens or a focal reducer make is nearly Gaussian.
    """
    gaussian = rng.random() < 0.5
    return {
        # The sharpest have most of their light in one pixel, as defects have.
        "fwhm": log_uniform(rng, 1.0, 1.35 if rng.random() < 0.4 else 2.0),
        "beta": _nearly_gaussian(rng) if gaussian else float(rng.uniform(2.2, 5.0)),
        "diffraction": 0.0,
        "trail": sometimes(rng, 0.1, 0.3, 2.0),
        "coma": 0.0 if gaussian else sometimes(rng, 0.2, 0.05, 0.3),
        "aureole": sometimes(rng, 0.3, 0.002, 0.02),
        "stars": log_uniform(rng, 30.0, 6e3),
        "star_slope": float(rng.uniform(0.2, 0.9)),
        "brightest": log_uniform(rng, 1e3, 1e6),
        # White noise: resampling would blur the stars, too.
        "correlation": 0.0,
        "shift_x": 0.0,
        "shift_y": 0.0,
        "shift_drift": 0.0,
    }


def _sharp_camera(rng):
    """Well-focused CCD frames with warm pixels and small hits, which look like faint stars."""
    return {
        "fwhm": log_uniform(rng, 1.6, 2.8),
        "diffraction": 0.0,
        "trail": 0.0,
        "correlation": 0.0,
        "shift_x": 0.0,
        "shift_y": 0.0,
        "shift_drift": 0.0,
        "stars": log_uniform(rng, 300.0, 5e3),
        "warm_pixels": log_uniform(rng, 5.0, 500.0),
        "hot_pixels": log_uniform(rng, 3.0, 100.0),
        "cosmic_rays": log_uniform(rng, 20.0, 500.0),
        "charge_diffusion": float(rng.uniform(0.0, 0.6)),
    }


def _nearby_galaxies(rng):
    """Groups and clusters of galaxies: many wide ones, some of them edge-on, among few stars."""
    return {
        "stars": log_uniform(rng, 3.0, 1e3),
        "large_galaxies": log_uniform(rng, 5.0, 40.0),
        "discs": sometimes(rng, 0.5, 2.0, 20.0),
        "nebula": 0.0,
        "satellite_trails": sometimes(rng, 0.3, 0.5, 3.0),
    }


def _empty_sky(rng):
    """No sources at all, or a handful: most of the sky of many a small telescope."""
    return {
        "stars": sometimes(rng, 0.5, 1.0, 30.0),
        "galaxies": 0.0,
        "large_galaxies": 0.0,
        "discs": 0.0,
        "nebula": 0.0,
        "threads": 0.0,
    }


def _exposure(rng):
    """Photons, read noise, units, resampling."""
    low = rng.random() < 0.13
    sky = log_uniform(rng, 0.02, 10.0) if low else log_uniform(rng, 10.0, 2e4)
    read = 0.0 if low and rng.random() < 0.7 else log_uniform(rng, 1.0, 20.0)
    rms = np.hypot(np.sqrt(sky), read)
    counting = low and read == 0.0
    correlation = 0.0 if counting else _correlation(rng)
    shifted = not counting and correlation == 0 and rng.random() < 0.25
    stack = correlation != 0 or shifted
    step = _quantisation(rng, fine=stack and rng.random() < 0.4)
    return {
        "sky": sky,
        "read_noise": read,
        "gain": log_uniform(rng, 0.3, 30.0),
        "correlation": correlation,
        "correlation_ratio": float(np.exp(0.2 * rng.standard_normal())),
        "shift_x": float(rng.uniform(0.05, 0.5)) if shifted else 0.0,
        "shift_y": float(rng.uniform(0.05, 0.5)) if shifted else 0.0,
        "shift_drift": sometimes(rng, 0.5, 0.3, 20.0) if shifted else 0.0,
        # Photons are counted one by one: the step is one electron.
        "quantisation": float(1.0 / rms) if counting else step,
        "rms_variation": sometimes(rng, 0.5, 0.01, 0.2),
        "full_well": float(sky + rms * log_uniform(rng, 30.0, 1e5)) if rng.random() < 0.7 else 0.0,
    }


def _correlation(rng):
    """Kernel of the resampling: none for single exposures, sharpening for some stacks."""
    kind = rng.random()
    if kind < 0.3:
        return log_uniform(rng, 0.25, 2.5)
    return -float(rng.uniform(0.01, 0.1)) if kind < 0.4 else 0.0


def _quantisation(rng, *, fine):
    """Step of the data in units of the rms: 12-bit cameras have the coarsest."""
    if fine or rng.random() < 0.35:
        return 0.0
    return log_uniform(rng, 1e-3, 1.5)


def _detector(rng):
    """Defects and pattern; a clean stack has next to none, a cheap camera all of them."""
    dirt = rng.choice([0.0, 0.3, 1.0], p=(0.3, 0.3, 0.4))
    chance = float(dirt)
    return {
        "tail_fraction": sometimes(rng, 0.4 * chance, 1e-5, 0.02),
        "tail_strength": float(rng.uniform(1.0, 4.0)),
        "hot_pixels": sometimes(rng, 0.7 * chance, 3.0, 1500.0),
        "warm_pixels": sometimes(rng, 0.7 * chance, 5.0, 4000.0),
        "holes": float(rng.uniform(0.0, 1.0)) if rng.random() < 0.4 else 0.0,
        "dark_fraction": sometimes(rng, 0.25 * chance, 0.003, 0.2),
        "dark_strength": log_uniform(rng, 0.3, 3.0),
        "dead_pixels": sometimes(rng, 0.4 * chance, 2.0, 200.0),
        "bad_columns": sometimes(rng, 0.35 * chance, 0.3, 8.0),
        "bands": sometimes(rng, 0.12 * chance, 0.5, 5.0),
        "row_noise": sometimes(rng, 0.4 * chance, 0.01, 0.5),
        "column_noise": sometimes(rng, 0.4 * chance, 0.01, 0.4),
        "odd_even": sometimes(rng, 0.15 * chance, 0.02, 0.5),
        "mosaic": sometimes(rng, 0.2 * chance, 0.05, 3.0),
        "amplifier_step": sometimes(rng, 0.3 * chance, 0.05, 3.0),
        "amplifier_size": (int(rng.integers(500, 5000)), int(rng.integers(500, 2500))),
        "cosmic_rays": sometimes(rng, 0.75 * chance + 0.1, 3.0, 1500.0),
        "charge_diffusion": float(rng.uniform(0.0, 0.6)),
        "gaps": sometimes(rng, 0.08, 0.5, 5.0),
        "edge_strips": sometimes(rng, 0.2, 0.5, 3.0),
        "flat_residual": sometimes(rng, 0.5, 5e-4, 0.01),
        "satellite_trails": sometimes(rng, 0.1, 0.5, 3.0),
    }


def _sky(rng):
    """Structure of the sky and of scattered light."""
    return {
        "gradient": sometimes(rng, 0.5, 0.1, 30.0),
        "vignetting": float(rng.uniform(0.01, 0.3)) if rng.random() < 0.2 else 0.0,
        "smooth_sky": sometimes(rng, 0.5, 0.05, 3.0),
        "fringes": sometimes(rng, 0.1, 0.05, 2.0),
        "fringe_period": log_uniform(rng, 20.0, 200.0),
        "ghosts": sometimes(rng, 0.2, 0.5, 3.0),
        "ghost_amplitude": log_uniform(rng, 0.1, 5.0),
        "cirrus": sometimes(rng, 0.1, 0.05, 0.5),
        "mottle": sometimes(rng, 0.4, 0.02, 0.4),
        "glow": sometimes(rng, 0.25, 0.3, 30.0),
    }
