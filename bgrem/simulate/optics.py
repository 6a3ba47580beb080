"""The point-spread function of one scene: drawn once, placed by sub-pixel shift."""

from dataclasses import dataclass
from functools import cached_property

import galsim
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bgrem.arrays.stamps import add_stamp, add_stamps

__all__ = ["PHASES", "PointSpread", "draw_psf"]

PHASES = 5  # sub-pixel positions per axis; also the sampling of the core, in samples per pixel
WING_RADIUS = 160  # px: a ninth-magnitude star's halo is seen so far out on a MeerLICHT frame
GAUSSIAN_BETA = 15.0  # where the Moffat profile is 3 % wider (noise-equivalent width)


@dataclass(frozen=True)
class PointSpread:
    """Pixel-integrated images of one point-spread function, of unit total flux.

    Attributes
    ----------
    fine : ndarray, (n, n) float32
        The core integrated over a pixel, at `PHASES` samples per pixel.
    wings : ndarray, (m, m) float32
        What lies outside the core, at one sample per pixel: Moffat tail,
        aureole and diffraction spikes. So smooth that a shift below a pixel does not show.
    """

    fine: np.ndarray
    wings: np.ndarray

    @property
    def radius(self):
        """Half width of the core's stamp in pixels."""
        return (self.fine.shape[0] // PHASES - 3) // 2

    @cached_property
    def stamps(self):
        """Stamps of the core for every sub-pixel phase, (PHASES, PHASES, k, k) float32.

        ``stamps[j, i]`` is centred ``(j - PHASES // 2) / PHASES`` pixels above,
        and as many right of, the middle of the stamp.
        """
        size = 2 * self.radius + 1
        # The centre of a stamp moves up when its samples are taken from further down.
        starts = PHASES + PHASES - 1 - np.arange(PHASES)
        return np.stack(
            [[self.fine[j::PHASES, i::PHASES][:size, :size] for i in starts] for j in starts]
        ).astype(np.float32)

    @property
    def image(self):
        """The core centred on a pixel, (k, k) float32."""
        return self.stamps[PHASES // 2, PHASES // 2]

    def place(self, image, x, y, flux, *, faint=0.0):
        """Add stars to an image, in place.

        Parameters
        ----------
        image : ndarray, (ny, nx) float32
        x, y : ndarray, (n,) int64
            Positions in units of ``1 / PHASES`` pixel (0 is the centre of the first pixel).
        flux : ndarray, (n,) float64
            Total flux of each star, in the image's unit.
        faint : float
            Surface brightness under which light may be left out, in the image's unit:
            bounds the size of the stamps.
        """
        half = PHASES // 2
        column, phase_x = np.divmod(x + half, PHASES)
        row, phase_y = np.divmod(y + half, PHASES)
        radii = self._radii(flux, faint)
        for radius in np.unique(radii):
            chosen = radii == radius
            cut = slice(self.radius - radius, self.radius + radius + 1)
            stamps = self.stamps[:, :, cut, cut][phase_y[chosen], phase_x[chosen]]
            stamps = stamps * flux[chosen].astype(np.float32)[:, None, None]
            add_stamps(image, stamps, column[chosen] - radius, row[chosen] - radius)
        # The wings are a percent of the light: only for stars that show them.
        bright = np.flatnonzero(flux * self.wings.max() > faint)
        middle = self.wings.shape[0] // 2
        for k in bright:
            add_stamp(image, self.wings * np.float32(flux[k]), column[k] - middle, row[k] - middle)

    def _radii(self, flux, faint):
        """Stamp radius in pixels for each star, from a short ladder of sizes."""
        ladder = np.unique(np.linspace(min(3, self.radius), self.radius, 4).astype(int))
        profile = self.image[self.radius, self.radius :]
        edge = np.array([profile[r] for r in ladder])
        index = np.argmax(flux[:, None] * edge[None, :] <= faint, axis=1)
        index[flux * edge[-1] > faint] = len(ladder) - 1
        return ladder[index]


def draw_psf(
    *,
    fwhm,
    beta,
    ellipticity=0.0,
    angle=0.0,
    diffraction=0.0,
    obscuration=0.0,
    defocus=0.0,
    astigmatism=0.0,
    trefoil=0.0,
    lens_coma=0.0,
    trail=0.0,
    coma=0.0,
    tail=0.0,
    aureole=0.0,
    spikes=0.0,
    spike_angle=0.0,
):
    """Draw a point-spread function with GalSim.

    Parameters
    ----------
    fwhm : float
        Full width at half maximum before the integration over a pixel, in pixels.
    beta : float
        Exponent of the Moffat profile (Moffat 1969, A&A 3, 455); 2.5 to 4.5 for seeing
        (Trujillo et al. 2001, MNRAS 328, 977). From 15 on the profile is a Gaussian.
    ellipticity : float
        1 - b/a.
    angle : float
        Direction of the long axis, of both comas and of the trail, in radians from the x axis.
    diffraction : float
        Wavelength over diameter in pixels: the Moffat profile, which stands for the seeing, or for
        the jitter and the diffusion of a telescope in space, is convolved with the image of the
        aperture. 0 for none.
    obscuration : float
        Of the aperture, as a fraction of its diameter.
    defocus, astigmatism, trefoil, lens_coma : float
        Aberrations of the aperture in waves: coefficients of Noll's Zernike polynomials (Noll
        1976, JOSA 66, 207). The astigmatism and the trefoil lie along ``spike_angle``.
    trail : float
        Length of the track of an unguided exposure, in pixels.
    coma : float
        Fraction of the light in a wider image beside the core: misaligned or fast optics.
    tail : float
        Fraction of the light dragged along the x or y axis: charge that lags in the readout
        (Janesick 2001, Scientific Charge-Coupled Devices, section 5.3).
    aureole : float
        Fraction of the light in an r**-2 aureole (King 1971, PASP 83, 199).
    spikes : float
        Fraction of the light in four diffraction spikes.
    spike_angle : float
        Direction of the first spike, in radians.

    Returns
    -------
    PointSpread
    """
    profile = _seeing(beta, fwhm)
    profile = profile.shear(g=_shear(ellipticity), beta=angle * galsim.radians)
    if diffraction > 0:
        aperture = galsim.OpticalPSF(
            lam_over_diam=diffraction,
            obscuration=obscuration,
            defocus=defocus,
            astig1=astigmatism * np.cos(2 * spike_angle),
            astig2=astigmatism * np.sin(2 * spike_angle),
            coma1=lens_coma * np.sin(angle),
            coma2=lens_coma * np.cos(angle),
            trefoil1=trefoil * np.sin(3 * spike_angle),
            trefoil2=trefoil * np.cos(3 * spike_angle),
        )
        profile = _peak_centred(galsim.Convolve(profile, aperture))
    if coma > 0:
        beside = _seeing(beta, 1.8 * fwhm)
        beside = beside.shift(0.9 * fwhm * np.cos(angle), 0.9 * fwhm * np.sin(angle))
        profile = (1 - coma) * profile + coma * beside
    radius = int(np.clip(np.ceil(4.5 * np.hypot(fwhm, diffraction) + trail / 2), 8, 30))
    fine = _pixel_core(profile, radius, trail, angle)
    if tail > 0:
        fine = _with_tail(fine, tail, angle)
    wings = _wings(profile, radius, aureole, spikes, spike_angle)
    kept = 1.0 - aureole - spikes
    core = fine * np.float32(kept)
    return _normalised(core, wings)


def _seeing(beta, fwhm):
    """A Moffat profile, from `GAUSSIAN_BETA` on its limit, a Gaussian: GalSim cannot transform steeper ones."""
    if beta >= GAUSSIAN_BETA:
        return galsim.Gaussian(fwhm=fwhm)
    return galsim.Moffat(beta=beta, fwhm=fwhm)


def _peak_centred(profile):
    """A profile moved so that its peak is where a star is: coma moves it off the axis."""
    size = 2 * 8 * PHASES + 1
    drawn = profile.drawImage(nx=size, ny=size, scale=1.0 / PHASES, method="no_pixel", dtype=float)
    seen = _box_mean(drawn.array)
    row, column = np.unravel_index(seen.argmax(), seen.shape)
    return profile.shift((size // 2 - column) / PHASES, (size // 2 - row) / PHASES)


def _shear(ellipticity):
    """Reduced shear of an ellipse of axis ratio 1 - `ellipticity`."""
    return ellipticity / (2.0 - ellipticity)


def _pixel_core(profile, radius, trail, angle):
    """Core integrated over a pixel at PHASES samples per pixel."""
    size = PHASES * (2 * radius + 3)
    drawn = profile.drawImage(nx=size, ny=size, scale=1.0 / PHASES, method="no_pixel", dtype=float)
    fine = drawn.array
    if trail > 0:
        fine = _moved_along(fine, trail * PHASES, angle)
    return _box_mean(fine).astype(np.float32) * PHASES**2


def _box_mean(fine):
    """Mean over PHASES x PHASES samples around each sample: the integral over a pixel."""
    padded = np.pad(fine, PHASES // 2, mode="edge")
    rows = sliding_window_view(padded, PHASES, axis=0).mean(axis=-1)
    return sliding_window_view(rows, PHASES, axis=1).mean(axis=-1)


def _moved_along(image, length, angle):
    """Mean of the image over positions along a line of `length` samples."""
    from scipy.ndimage import shift

    positions = np.linspace(-0.5, 0.5, max(3, int(length / 2)))
    moved = [
        shift(image, (p * length * np.sin(angle), p * length * np.cos(angle)), order=1)
        for p in positions
    ]
    return np.mean(moved, axis=0)


def _with_tail(fine, share, angle):
    """Part of the light dragged along one of the axes, fading over some pixels."""
    length = 2.0 + 4.0 * (angle % 1.0)
    lags = np.arange(1, 4 * int(length) + 1)
    weights = np.exp(-lags / length)
    axis, sign = int(angle * 10) % 2, 1 if int(angle * 100) % 2 else -1
    dragged = np.zeros_like(fine)
    for lag, weight in zip(lags, weights / weights.sum(), strict=True):
        moved = np.roll(fine, sign * lag * PHASES, axis)
        cut = [slice(None), slice(None)]  # what was rolled over the border is lost
        cut[axis] = slice(0, lag * PHASES) if sign > 0 else slice(-lag * PHASES, None)
        moved[tuple(cut)] = 0.0
        dragged += np.float32(weight) * moved
    return ((1 - share) * fine + share * dragged).astype(np.float32)


def _wings(profile, radius, aureole, spikes, spike_angle):
    """Light outside the core at one sample per pixel, (m, m) float32."""
    size = 2 * WING_RADIUS + 1
    wings = profile.drawImage(nx=size, ny=size, scale=1.0, method="no_pixel", dtype=float).array
    y, x = np.indices((size, size), dtype=np.float64) - WING_RADIUS
    inside = (np.abs(x) <= radius) & (np.abs(y) <= radius)
    wings = wings * (1.0 - aureole - spikes)
    wings[inside] = 0.0
    # Soft truncation: the square stamp's border would show as an edge around bright stars.
    r = np.hypot(x, y)
    taper = np.clip((WING_RADIUS - r) / (0.3 * WING_RADIUS), 0.0, 1.0)
    if aureole > 0:
        halo = taper / (r**2 + (0.5 * radius) ** 2)
        wings += aureole * halo / halo.sum()
    if spikes > 0:
        shape = _spike_image(x, y, r, spike_angle) * taper
        wings += spikes * shape / shape.sum()
    return (wings * taper).astype(np.float32)


def _spike_image(x, y, r, angle):
    """Four spikes of one pixel's width that fade as 1/r, (m, m) float64."""
    along = x * np.cos(angle) + y * np.sin(angle)
    across = -x * np.sin(angle) + y * np.cos(angle)
    lines = np.exp(-0.5 * (across / 0.7) ** 2) + np.exp(-0.5 * (along / 0.7) ** 2)
    return lines / (r + 3.0)


def _normalised(core, wings):
    """Scale core and wings so that a star's whole light is 1."""
    total = core.sum() / PHASES**2 + wings.sum()
    return PointSpread(fine=(core / total).astype(np.float32), wings=wings / np.float32(total))
