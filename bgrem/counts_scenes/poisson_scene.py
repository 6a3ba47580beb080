"""Counts maps with exact truth: expected counts of sources and background, and a Poisson draw of their sum."""

from dataclasses import dataclass, field, fields

import numpy as np

from bgrem.counts.counts_input import area_fwhm
from bgrem.counts_scenes.diffuse_emission import (
    chip_levels,
    clouds,
    detector_features,
    draw_extended_sources,
    exposure_map,
    plane_emission,
)
from bgrem.counts_scenes.king import (
    SOURCE_MARGIN,
    KingProfile,
    blurred_light,
    off_axis_light,
    psf_image,
    smoothed_map,
)
from bgrem.counts_scenes.populations import (
    POPULATIONS,
    expected_snr,
    expected_snr_of_light,
    flux_of_snr,
)

__all__ = ["COUNTS_TRUTH", "CountsScene", "CountsSky", "draw_counts", "random_counts_scene"]

COUNTS_TRUTH = np.dtype(
    [("x", "f4"), ("y", "f4"), ("counts", "f8"), ("snr", "f4"), ("kind", "u1"), ("radius", "f4")]
)
EXTENDED_SOURCE = 1  # kind in the truth table; point sources have 0
# S/N of the faintest sources that are drawn (fainter ones are the isotropic background), and of those that `density`
# counts.
FAINTEST_SNR, DENSITY_SNR = 0.5, 3.0
LEAST_SIDE = 16  # px
#: Least and largest values of the fields.
COUNTS_LIMITS = {
    "bands": (1, 64), "level": (1e-5, 1e5), "band_level": (0.01, 1.0), "band_width": (0.3, 1.0),
    "band_index": (-3.0, 3.0), "fwhm": (0.5, 20.0), "king_index": (1.1, 100.0), "tail": (0.0, 0.8),
    "tail_width": (1.0, 10.0), "ellipticity": (0.0, 0.7), "off_axis": (0.0, 20.0),
    "isotropic": (0.0, 1.0), "instrumental": (0.0, 1.0), "plane": (0.0, 1.0),
    "plane_height": (1.0, 1e4), "plane_angle": (-10.0, 10.0), "plane_offset": (-1e4, 1e4),
    "cloud_slope": (1.0, 5.0), "cloud_contrast": (0.0, 2.0), "chip_scatter": (0.0, 2.0),
    "edge_glow": (0.0, 100.0), "bright_lines": (0, 1000), "exposure_tilt": (-3.0, 3.0),
    "vignetting": (0.0, 1.0), "gaps": (0, 100), "pointings": (0, 1000), "bad_columns": (0, 1000),
    "density": (0.0, 1000.0), "break_snr": (0.01, 1e6), "brightest": (1.0, 1e6),
    "extended": (0.0, 100.0), "largest_radius": (0.0, 1e4), "template_blur": (0.0, 1e3),
    "template_tilt": (-3.0, 3.0), "template_missing": (0.0, 1.0),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CountsScene:
    """A field of the gamma-ray or X-ray sky and its telescope; the defaults are those of a patch of the Fermi-LAT.

    Attributes
    ----------
    shape : tuple of int
        (ny, nx) in pixels, at least 16.
    bands : int
        Energy bands.
    level : float
        Mean expected counts of the background per pixel in the first band, at mean exposure.
    band_level, band_width, band_index : float
        From one band to the next: factor of the background, factor of the PSF's width, and the logarithm (base 3) of
        the ratio of a source's mean spectrum to the background's.
    fwhm, king_index, tail, tail_width, ellipticity : float
        Of the PSF in the first band: `bgrem.counts_scenes.king.KingProfile`.
    off_axis : float
        Growth of the PSF's width from the centre to a corner, of point sources: 1 is a width twice as large.
    isotropic, instrumental : float
        Parts of the background, together at most 1; the rest is Galactic. The instrumental part is neither vignetted
        nor in the template.
    plane, plane_height, plane_angle, plane_offset : float
        Part of the Galactic emission that is a plane (`plane_emission`), its scale height in pixels, its angle in
        radians and its distance from the centre in pixels.
    cloud_slope, cloud_contrast : float
        Of the clouds by which the Galactic emission is multiplied: `clouds`.
    chip_scatter, edge_glow, bright_lines : float, float, int
        Of the instrumental background: scatter of the logarithm of its level from chip to chip; its excess at the
        edges; columns and rows that are brighter (`detector_features`).
    exposure_tilt, vignetting, gaps, pointings, bad_columns : float, float, int, int, int
        See `exposure_map`.
    density : float
        Point sources per 1000 areas of the PSF (1 / sum(P^2)) whose S/N is at least 3, at mean exposure and background,
        where S/N is S / sqrt(S + B) of the counts in one area (`flux_of_snr`). Where B is below 1, S/N of 3 is 9 counts
        and more sources than these have an expected S/N of 3 in the truth table.
    population : str
        One of `bgrem.counts_scenes.populations.POPULATIONS`.
    break_snr : float
        S/N at which the distribution of flux breaks.
    brightest : float
        S/N of the brightest source that is possible.
    extended : float
        Extended sources per 1e4 pixels.
    largest_radius : float
        Of extended sources, in pixels.
    template_blur : float
        FWHM of a Gaussian that blurs the template, in pixels.
    template_tilt : float
        Rise of the logarithm of the template's error across the map.
    template_missing : float
        Part of the isotropic emission that the template lacks.

    Raises
    ------
    ValueError
        Where a field lies outside `COUNTS_LIMITS`.
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
    edge_glow: float = 0.0
    bright_lines: int = 0
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
        if len(self.shape) != 2 or min(self.shape) < LEAST_SIDE:
            raise ValueError(f"shape is {self.shape}: two sides of at least {LEAST_SIDE} pixels")
        if self.population not in POPULATIONS:
            known = ", ".join(POPULATIONS)
            raise ValueError(f"population is {self.population!r}, none of {known}")
        for entry in fields(self):
            if entry.name not in COUNTS_LIMITS:
                continue
            value, (low, high) = getattr(self, entry.name), COUNTS_LIMITS[entry.name]
            if not low <= value <= high:
                raise ValueError(f"{entry.name} is {value:g}, outside {low:g} to {high:g}")
            if entry.type is int and value != int(value):
                raise ValueError(f"{entry.name} is {value:g}, not a whole number")
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
        `area_fwhm` of the PSF, in pixels.
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
    for band in bands:
        light[band] = exposure * off_axis_light(
            scene.shape, x, y, flux * spectra[:, band], scene.profile(band), scene.off_axis
        )
    truth = _point_truth((x, y), flux[:, None] * spectra, exposure, backgrounds, psf)
    shapes, colours, rows = draw_extended_sources(scene, rng, sky)
    if len(shapes):
        wide = sum(
            colour[:, None, None] * shape for colour, shape in zip(colours, shapes, strict=True)
        )
        light += exposure * blurred_light(wide, psf)
        truth = np.concatenate(
            [truth, _wide_truth(rows, shapes, colours, exposure, backgrounds, psf)]
        )
    expected = light.astype(np.float64) + backgrounds
    return CountsSky(
        scene, rng.poisson(expected).astype(np.int32), light, backgrounds.astype(np.float32),
        np.repeat(exposure[None], len(psf), 0), template * levels[:, None, None].astype(np.float32), psf,
        area_fwhm(psf), truth,
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
    if scene.edge_glow or scene.bright_lines:
        detector = detector * detector_features(
            rng, scene.shape, scene.edge_glow, int(scene.bright_lines)
        )
    template = share * galactic + (1 - scene.template_missing) * scene.isotropic
    template = np.maximum(template, 1e-4)
    if scene.template_blur:
        template = smoothed_map(template, scene.template_blur)
    if scene.template_tilt:
        y, x = np.ogrid[-0.5 : 0.5 : scene.shape[0] * 1j, -0.5 : 0.5 : scene.shape[1] * 1j]
        direction = rng.uniform(0, 2 * np.pi)
        template = template * np.exp(
            scene.template_tilt * (x * np.cos(direction) + y * np.sin(direction))
        )
    background = (sky * exposure + detector) * seen
    return sky, background.astype(np.float32), template.astype(np.float32)


def _point_sources(scene, rng, psf, level):
    """Places in pixels, in the map and around it, and expected counts in the first band at mean exposure."""
    area = 1 / float((psf.astype(np.float64) ** 2).sum())
    flux_at = lambda snr: float(flux_of_snr(snr, level * area))
    lowest, highest = flux_at(FAINTEST_SNR), flux_at(max(scene.brightest, 2 * DENSITY_SNR))
    law, break_flux = POPULATIONS[scene.population], flux_at(scene.break_snr)
    sides = [side + 2 * SOURCE_MARGIN for side in scene.shape]
    counted = scene.density * sides[0] * sides[1] / (1000 * area)
    part = float(law.above(flux_at(DENSITY_SNR), lowest, break_flux, highest))
    number = min(rng.poisson(counted / max(part, 1e-6)), sides[0] * sides[1] // 4)
    y, x = (rng.uniform(-0.5, side - 0.5, number) - SOURCE_MARGIN for side in sides)
    return x, y, law.draw(rng, number, lowest, break_flux, highest)


def _spectra(scene, rng, number):
    """Counts of sources in each band over those in the first, (number, bands)."""
    bands = np.arange(int(scene.bands))
    index = scene.band_index + 0.4 * rng.standard_normal(number)
    return (scene.band_level * 3.0 ** index[:, None]) ** bands[None]


def _point_truth(places, counts, exposure, backgrounds, psf):
    """Rows of the truth table of the point sources in the map; counts (n, K) are those at mean exposure."""
    x, y = places
    ny, nx = exposure.shape
    at = (np.clip(np.rint(y).astype(int), 0, ny - 1), np.clip(np.rint(x).astype(int), 0, nx - 1))
    seen = exposure[at]
    truth = np.zeros(len(x), COUNTS_TRUTH)
    truth["x"], truth["y"], truth["counts"] = x, y, counts.sum(1) * seen
    truth["snr"] = np.sqrt(
        sum(
            expected_snr(counts[:, band] * seen, backgrounds[band][at], psf[band]) ** 2
            for band in range(len(psf))
        )
    )
    inside = (x > -0.5) & (y > -0.5) & (x < nx - 0.5) & (y < ny - 0.5)
    return truth[inside & (seen > 0)]


def _wide_truth(rows, shapes, colours, exposure, backgrounds, psf):
    """Rows of the truth table of extended sources: of the light that the map receives of each."""
    truth = np.zeros(len(rows), COUNTS_TRUTH)
    for row, place, shape, colour in zip(truth, rows, shapes, colours, strict=True):
        light = exposure * blurred_light(colour[:, None, None] * shape, psf)
        row["x"], row["y"], row["radius"] = place
        row["counts"], row["kind"] = light.sum(dtype=np.float64), EXTENDED_SOURCE
        row["snr"] = expected_snr_of_light(light, backgrounds)
    return truth[truth["counts"] > 0]


def random_counts_scene(rng, shape=(128, 128), bands=1):
    """A scene of the sky that a counts model learns from: every field is random, absent included.

    Parameters
    ----------
    rng : `~numpy.random.Generator`
    shape : tuple of int
        (ny, nx) in pixels.
    bands : int

    Returns
    -------
    CountsScene
    """

    def some(chance, value, other=0.0):
        return value if rng.random() < chance else other

    def between(low, high):
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    isotropic, instrumental = rng.uniform(0, 1), some(0.4, rng.uniform(0, 1))
    total = max(1.0, isotropic + instrumental)
    # One detector in five glows at its edges, one in ten has bright lines.
    detector = rng.spawn(1)[0]
    glow, lines = max(0.0, float(detector.uniform(-4, 1))), max(0, int(detector.integers(-27, 4)))
    if not instrumental:
        glow, lines = 0.0, 0
    return CountsScene(
        shape=tuple(shape), bands=bands,
        level=between(0.003, 300),
        band_level=rng.uniform(0.15, 0.8), band_width=rng.uniform(0.6, 1.0),
        band_index=rng.uniform(-0.3, 0.8),
        fwhm=between(1.0, 6.0), king_index=some(0.8, between(1.4, 8), 60.0),
        tail=some(0.6, rng.uniform(0, 0.4)), tail_width=rng.uniform(1.5, 4),
        ellipticity=some(0.3, rng.uniform(0, 0.4)), off_axis=some(0.25, between(0.2, 3)),
        isotropic=isotropic / total, instrumental=instrumental / total,
        plane=some(0.6, rng.uniform(0, 1)), plane_height=between(4, 200),
        plane_angle=rng.uniform(0, np.pi), plane_offset=rng.normal(0, 0.3 * min(shape)),
        cloud_slope=rng.uniform(2, 3.8), cloud_contrast=some(0.8, rng.uniform(0, 0.9)),
        chip_scatter=some(0.3, rng.uniform(0, 0.4)),
        edge_glow=3 * glow, bright_lines=lines,
        exposure_tilt=some(0.7, rng.uniform(0, 0.8)), vignetting=some(0.4, rng.uniform(0, 1)),
        gaps=int(some(0.3, rng.integers(1, 4))), pointings=int(some(0.2, rng.integers(1, 7))),
        bad_columns=int(some(0.1, rng.integers(1, 6))),
        density=some(0.85, between(0.3, 60)), population=str(rng.choice(list(POPULATIONS))),
        break_snr=between(1, 15), brightest=between(20, 2000),
        extended=some(0.4, between(0.3, 4)), largest_radius=between(5, 60),
        template_blur=some(0.4, between(2, 25)), template_tilt=some(0.4, rng.uniform(-0.8, 0.8)),
        template_missing=some(0.3, rng.uniform(0, 1)),
    )  # fmt: skip
