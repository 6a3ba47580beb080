"""Counts maps with exact truth: expected counts of sources and background, and a Poisson draw of their sum."""

from dataclasses import dataclass, field

import numpy as np
from scipy import fft

from bgrem.counts_training.diffuse_emission import chip_levels, clouds, exposure_map, plane_emission
from bgrem.counts_training.extended_sources import draw_extended
from bgrem.counts_training.king import KingProfile, equivalent_fwhm, psf_image
from bgrem.counts_training.populations import POPULATIONS, expected_snr, flux_of_snr

__all__ = ["COUNTS_TRUTH", "CountsScene", "CountsSky", "draw_counts"]

COUNTS_TRUTH = np.dtype(
    [
        ("x", "f4"), ("y", "f4"), ("counts", "f8"), ("snr", "f4"), ("kind", "u1"),
        ("radius", "f4"),
    ]
)  # fmt: skip
POINT, WIDE = 0, 1  # kinds in the truth table
FAINTEST_SNR, SCORED_SNR = (
    0.5,
    3.0,
)  # of the sources that are drawn, and of those that `density` counts
MARGIN = 32  # px: sources around a map shine into it
# What a field may be; all others are finite and not negative.
COUNTS_LIMITS = {
    "bands": (1, 64), "level": (1e-5, 1e5), "fwhm": (0.5, 20.0), "king_index": (1.1, 100.0),
    "tail": (0.0, 0.8), "tail_width": (1.0, 10.0), "ellipticity": (0.0, 0.7),
    "isotropic": (0.0, 1.0), "instrumental": (0.0, 1.0), "cloud_slope": (1.0, 5.0),
    "cloud_contrast": (0.0, 2.0), "plane_angle": (-np.inf, np.inf), "plane_offset": (-np.inf, np.inf),
    "plane_height": (1.0, 1e4), "vignetting": (0.0, 1.0), "template_tilt": (-3.0, 3.0),
    "template_missing": (0.0, 1.0), "band_level": (0.01, 1.0), "band_width": (0.3, 1.0),
    "band_index": (-3.0, 3.0), "exposure_tilt": (-3.0, 3.0), "brightest": (1.0, 1e6),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CountsScene:
    """A field of the gamma-ray or X-ray sky and its telescope; the defaults are those of a patch of the Fermi-LAT.

    Attributes
    ----------
    shape : tuple of int
        (ny, nx) in pixels.
    bands : int
        Energy bands.
    level : float
        Mean expected counts of the background per pixel in the first band.
    band_level, band_width, band_index : float
        From one band to the next: factor of the background, of the PSF's width, and the logarithm (base 3) of the
        ratio of a source's mean spectrum to the background's.
    fwhm, king_index, tail, tail_width, ellipticity : float
        Of the PSF: `bgrem.counts_training.king.KingProfile`.
    off_axis : float
        Growth of the PSF's width from the centre to a corner.
    isotropic, instrumental : float
        Parts of the background; the rest is Galactic. The instrumental one is not vignetted.
    plane, plane_height, plane_angle, plane_offset : float
        Part of the Galactic emission that is a plane (`plane_emission`), its scale height in pixels, its angle in
        radians and its distance from the centre in pixels; the rest are clouds.
    cloud_slope, cloud_contrast : float
        See `clouds`.
    chip_scatter : float
        Scatter of the logarithm of the instrumental level from chip to chip.
    exposure_tilt, vignetting, gaps, pointings, bad_columns
        See `exposure_map`.
    density : float
        Point sources of an expected S/N of 3 and more per 1000 areas of the PSF.
    population : str
        One of `bgrem.counts_training.populations.POPULATIONS`.
    break_snr : float
        Expected S/N at which the distribution of flux breaks.
    brightest : float
        S/N of the brightest that is possible.
    extended : float
        Extended sources per 1e4 pixels.
    largest_radius : float
        Of extended sources, in pixels.
    template_blur : float
        FWHM of a Gaussian that blurs the template, in pixels.
    template_tilt : float
        Rise of the logarithm of its error across the map.
    template_missing : float
        Part of the isotropic emission that it lacks.
    """

    shape: tuple = (200, 200)
    bands: int = 1
    level: float = 1.0
    band_level: float = 0.3
    band_width: float = 0.75
    band_index: float = 0.4
    fwhm: float = 3.0
    king_index: float = 2.5
    tail: float = 0.15
    tail_width: float = 2.5
    ellipticity: float = 0.0
    off_axis: float = 0.0
    isotropic: float = 0.3
    instrumental: float = 0.0
    plane: float = 0.5
    plane_height: float = 30.0
    plane_angle: float = 0.0
    plane_offset: float = 0.0
    cloud_slope: float = 3.0
    cloud_contrast: float = 0.4
    chip_scatter: float = 0.0
    exposure_tilt: float = 0.1
    vignetting: float = 0.0
    gaps: int = 0
    pointings: int = 0
    bad_columns: int = 0
    density: float = 8.0
    population: str = "hard blazars"
    break_snr: float = 5.0
    brightest: float = 200.0
    extended: float = 0.3
    largest_radius: float = 30.0
    template_blur: float = 0.0
    template_tilt: float = 0.0
    template_missing: float = 0.0

    def __post_init__(self):
        """Refuse what cannot be drawn."""
        if min(self.shape) < 16:
            raise ValueError(f"shape is {self.shape}: at least 16 px a side")
        if self.population not in POPULATIONS:
            known = ", ".join(POPULATIONS)
            raise ValueError(f"population is {self.population!r}, none of {known}")
        for name, value in vars(self).items():
            if name in ("shape", "population"):
                continue
            low, high = COUNTS_LIMITS.get(name, (0.0, np.inf))
            if not (low <= value <= high and np.isfinite(value)):
                raise ValueError(f"{name} is {value:g}, outside {low:g} to {high:g}")
        if self.isotropic + self.instrumental > 1 + 1e-9:
            raise ValueError(
                "isotropic and instrumental are parts of the background, together at most 1"
            )

    def profile(self, band=0):
        """The PSF of a band, in the centre of the map."""
        return KingProfile(
            fwhm=max(self.fwhm * self.band_width**band, 0.5), index=self.king_index,
            tail=self.tail, tail_width=self.tail_width, ellipticity=self.ellipticity,
            angle=self.plane_angle + 1.0,
        )  # fmt: skip


@dataclass(frozen=True)
class CountsSky:
    """A drawn map of K energy bands, with its truth.

    Attributes
    ----------
    scene : CountsScene
    counts : ndarray, (K, ny, nx) int32
        A Poisson draw of ``sources + background``; 0 without exposure.
    sources, background : ndarray, (K, ny, nx) float32
        Expected counts.
    exposure : ndarray, (K, ny, nx) float32
        With mean 1 where the map was seen, 0 elsewhere.
    template : ndarray, (K, ny, nx) float32
        The background of the sky per unit exposure, as a user knows it, of any scale.
    psf : ndarray, (K, 31, 31) float32
        In the centre of the map, with sum 1.
    fwhm : ndarray, (K,) float64
        `equivalent_fwhm` of the PSF, in pixels.
    truth : ndarray of COUNTS_TRUTH
        Sources in the map: position in pixels, expected counts of all bands, the expected S/N
        (`expected_snr`), 0 for point sources and 1 for others, whose radius is in pixels.
    """

    scene: CountsScene = field(repr=False)
    counts: np.ndarray
    sources: np.ndarray
    background: np.ndarray
    exposure: np.ndarray
    template: np.ndarray
    psf: np.ndarray
    fwhm: np.ndarray
    truth: np.ndarray


def draw_counts(scene, rng):
    """Draw a scene.

    Parameters
    ----------
    scene : CountsScene
    rng : `~numpy.random.Generator`

    Returns
    -------
    CountsSky
    """
    exposure = exposure_map(
        rng, scene.shape, tilt=scene.exposure_tilt, vignetting=scene.vignetting, gaps=int(scene.gaps),
        pointings=int(scene.pointings), columns=int(scene.bad_columns),
    )  # fmt: skip
    sky, background, template = _background(scene, rng, exposure)
    bands = range(int(scene.bands))
    psf = np.stack([psf_image(scene.profile(band)) for band in bands])
    levels = np.array([scene.band_level**band for band in bands])
    backgrounds = levels[:, None, None] * background
    x, y, flux = _point_sources(scene, rng, psf[0], float(np.median(background[exposure > 0])))
    spectra = _spectra(scene, rng, len(flux))
    light = np.zeros((len(psf), *scene.shape), np.float32)
    snr2 = np.zeros(len(flux))
    at = (
        np.clip(np.rint(y).astype(int), 0, scene.shape[0] - 1),
        np.clip(np.rint(x).astype(int), 0, scene.shape[1] - 1),
    )
    for band in bands:
        fluxes = flux * spectra[:, band]
        light[band] = exposure * _drawn(scene, band, x, y, fluxes)
        snr2[:] += expected_snr(fluxes * exposure[at], backgrounds[band][at], psf[band]) ** 2
    counts = (flux[:, None] * spectra).sum(1) * exposure[at]
    wide, wide_truth = draw_extended(scene, rng, sky, len(psf))
    light += exposure * _blurred(wide, psf)
    truth = np.zeros(len(flux), COUNTS_TRUTH)
    truth["x"], truth["y"], truth["counts"], truth["snr"] = x, y, counts, np.sqrt(snr2)
    inside = (x > -0.5) & (y > -0.5) & (x < scene.shape[1] - 0.5) & (y < scene.shape[0] - 0.5)
    truth = truth[inside & (exposure[at] > 0)]
    truth = np.concatenate([truth, _wide_truth(wide_truth, exposure)])
    expected = light.astype(np.float64) + backgrounds
    return CountsSky(
        scene, rng.poisson(expected).astype(np.int32), light, backgrounds.astype(np.float32),
        np.repeat(exposure[None], len(psf), 0), template * levels[:, None, None].astype(np.float32), psf,
        equivalent_fwhm(psf), truth,
    )  # fmt: skip


def _background(scene, rng, exposure):
    """Expected counts of the sky per unit exposure, of the background with exposure, and the template."""
    seen = exposure > 0
    plane = plane_emission(scene.shape, scene.plane_angle, scene.plane_height, scene.plane_offset)
    gas = clouds(rng, scene.shape, scene.cloud_slope, scene.cloud_contrast, fwhm=scene.fwhm)
    galactic = (1 - scene.plane + scene.plane * plane) * gas
    galactic /= galactic.mean()
    share = 1 - scene.isotropic - scene.instrumental
    sky = scene.level * (scene.isotropic + share * galactic)
    detector = scene.level * scene.instrumental * chip_levels(rng, scene.shape, scene.chip_scatter)
    template = share * galactic + (1 - scene.template_missing) * scene.isotropic
    template = np.maximum(template, 1e-4)
    if scene.template_blur:
        template = _smoothed(template, scene.template_blur)
    if scene.template_tilt:
        y, x = np.ogrid[-0.5 : 0.5 : scene.shape[0] * 1j, -0.5 : 0.5 : scene.shape[1] * 1j]
        direction = rng.uniform(0, 2 * np.pi)
        template = template * np.exp(
            scene.template_tilt * (x * np.cos(direction) + y * np.sin(direction))
        )
    background = (sky * exposure + detector) * seen
    return sky, background.astype(np.float32), template.astype(np.float32)


def _smoothed(image, fwhm):
    ky, kx = np.fft.fftfreq(2 * image.shape[0])[:, None], np.fft.rfftfreq(2 * image.shape[1])[None]
    whole = np.pad(image, [(0, side) for side in image.shape], mode="symmetric")
    factor = np.exp(-0.5 * (2 * np.pi * 0.4247 * fwhm) ** 2 * (ky * ky + kx * kx))
    return fft.irfft2(fft.rfft2(whole) * factor, s=whole.shape)[: image.shape[0], : image.shape[1]]


def _point_sources(scene, rng, psf, level):
    """Places in pixels, in the map and around it, and expected counts in the first band at mean exposure."""
    area = 1 / float((psf.astype(np.float64) ** 2).sum())
    flux_at = lambda snr: float(flux_of_snr(snr, level * area))
    lowest, highest = flux_at(FAINTEST_SNR), flux_at(max(scene.brightest, 2 * SCORED_SNR))
    law, break_flux = POPULATIONS[scene.population], flux_at(scene.break_snr)
    sides = [side + 2 * MARGIN for side in scene.shape]
    counted = scene.density * sides[0] * sides[1] / (1000 * area)
    part = float(law.above(flux_at(SCORED_SNR), lowest, break_flux, highest))
    number = min(rng.poisson(counted / max(part, 1e-6)), sides[0] * sides[1] // 4)
    y, x = (rng.uniform(-0.5, side - 0.5, number) - MARGIN for side in sides)
    return x, y, law.draw(rng, number, lowest, break_flux, highest)


def _spectra(scene, rng, number):
    """Counts of sources in each band over those in the first, (number, bands)."""
    bands = np.arange(int(scene.bands))
    index = scene.band_index + 0.4 * rng.standard_normal(number)
    return (scene.band_level * 3.0 ** index[:, None]) ** bands[None]


def _drawn(scene, band, x, y, fluxes):
    """Light of point sources at mean exposure, with the PSF of a band at each place."""
    profile = scene.profile(band)
    if not scene.off_axis:
        return _convolved(scene.shape, x, y, fluxes, profile)
    ny, nx = scene.shape
    distance = np.hypot((y - ny / 2) / ny, (x - nx / 2) / nx) / np.hypot(0.5, 0.5)
    growth = 1 + scene.off_axis * np.minimum(distance, 1.2) ** 2
    # Each source is divided between the two nearest of a few widths.
    widths = np.linspace(1, 1 + 1.44 * scene.off_axis, 4)
    place = np.interp(growth, widths, np.arange(len(widths)))
    light = np.zeros(scene.shape, np.float32)
    for number, width in enumerate(widths):
        share = np.maximum(0, 1 - np.abs(place - number))
        some = share > 0
        light += _convolved(
            scene.shape, x[some], y[some], (fluxes * share)[some], profile.scaled(width)
        )
    return light


def _convolved(shape, x, y, fluxes, profile):
    """Light of point sources of one PSF: deposited on fine pixels, convolved, and summed over pixels."""
    fine = 4 if profile.fwhm < 1.8 else 3 if profile.fwhm < 3 else 2
    ny, nx = ((side + 2 * MARGIN) * fine for side in shape)
    grid = np.zeros((ny, nx), np.float32)
    u = (np.asarray(x) + MARGIN + 0.5) * fine - 0.5
    v = (np.asarray(y) + MARGIN + 0.5) * fine - 0.5
    i, j = np.floor(v).astype(int), np.floor(u).astype(int)
    fi, fj = v - i, u - j
    for di in (0, 1):
        for dj in (0, 1):
            part = fluxes * np.abs(1 - di - fi) * np.abs(1 - dj - fj)
            np.add.at(grid, ((i + di) % ny, (j + dj) % nx), part.astype(np.float32))
    oy = np.fft.fftfreq(ny, 1 / ny).astype(np.float32)[:, None] / fine
    ox = np.fft.fftfreq(nx, 1 / nx).astype(np.float32)[None] / fine
    kernel = profile(ox, oy).astype(np.float32)
    kernel /= kernel.sum()
    light = fft.irfft2(fft.rfft2(grid) * fft.rfft2(kernel), s=(ny, nx))
    light = np.maximum(light, 0).reshape(ny // fine, fine, nx // fine, fine).sum((1, 3))
    return light[MARGIN:-MARGIN, MARGIN:-MARGIN]


def _blurred(images, psf):
    """Images (K, ny, nx) convolved with PSF images (K, k, k); light leaves at the edges."""
    if not images.any():
        return images
    half = psf.shape[-1] // 2
    shape = [side + 2 * half for side in images.shape[1:]]
    product = fft.rfft2(images, s=shape) * fft.rfft2(psf, s=shape)
    whole = fft.irfft2(product, s=shape)[:, half:, half:]
    return np.maximum(whole[:, : images.shape[1], : images.shape[2]], 0).astype(np.float32)


def _wide_truth(found, exposure):
    """Rows of the truth table of extended sources: (x, y, counts, snr, radius) at mean exposure."""
    truth = np.zeros(len(found), COUNTS_TRUTH)
    for row, (x, y, counts, snr, radius) in zip(truth, found, strict=True):
        at = exposure[
            int(np.clip(round(y), 0, exposure.shape[0] - 1)),
            int(np.clip(round(x), 0, exposure.shape[1] - 1)),
        ]
        row["x"], row["y"], row["counts"], row["radius"] = x, y, counts * at, radius
        row["snr"], row["kind"] = snr * np.sqrt(at), WIDE
    return truth[truth["counts"] > 0]
