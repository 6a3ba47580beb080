"""An image in units that single precision can hold, its sky, and the way back to data units."""

from dataclasses import dataclass

import numpy as np

from bgrem.arrays.rows import Computed, Derived, Rows, either
from bgrem.arrays.tiling import over_strips
from bgrem.options import IN_MEMORY, Options, Run
from bgrem.sky.blocks import block_statistics
from bgrem.sky.estimate import center_and_scale, estimate_mesh, one_count, quantisation_step
from bgrem.sky.measured import MeasuredSky, SkyFunction, sky_of_mesh, sky_of_network
from bgrem.sky.mesh import Mesh
from bgrem.sky.network_input import is_in_range
from bgrem.sky.weights import is_even, unreliable_pixels, weighted_mesh

__all__ = ["SkyMap", "StandardImage", "measure_sky", "standardise"]

# In scales. A limit of safety, as 1e300 would be infinite in single precision; and, chosen by hand, the
# level above which a frame is raw and has no true pixel below 0.
BRIGHTEST, RAW_LEVEL = 1e10, 5.0
THIN_STRIP = 16  # rows, each of which takes several numbers in double precision


@dataclass(frozen=True, eq=False)
class StandardImage:
    """An image less its median, over its robust standard deviation.

    Attributes
    ----------
    pixels : Rows
        ``(data - center) / scale``, float32 of shape (ny, nx); 0 where a pixel is bad.
    center, scale : float
        In data units.
    minpix : float or None
        The level to which lower pixels were raised, in data units.
    """

    pixels: Rows
    center: float
    scale: float
    minpix: float | None


def standardise(
    data: Rows, bad: Rows | None, minpix: float | str | None = None, run: Run = IN_MEMORY
) -> StandardImage:
    """Bring an image to numbers that single precision can hold, whatever its unit and bias level.

    ``minpix`` is that of `bgrem.options.Options`. Raises ValueError if the image has no good pixel, or is
    constant.
    """
    center, scale = center_and_scale(_raised(data, minpix), bad)
    if minpix == "auto":
        minpix = 0.0 if center > RAW_LEVEL * scale else None
    pixels = run.empty(data.shape, np.float32)
    raised = _raised(data, minpix)

    def fill(rows: slice) -> None:
        with np.errstate(invalid="ignore", over="ignore"):  # a signalling NaN in corrupt pixels
            strip = raised[rows].astype(np.float64)
            strip -= center
            strip /= scale
        np.clip(strip, -BRIGHTEST, BRIGHTEST, out=strip)
        if bad is not None:
            strip[bad[rows]] = 0
        pixels[rows] = strip

    over_strips(fill, data.shape, height=THIN_STRIP, threads=run.threads)
    return StandardImage(pixels, center, scale, None if minpix is None else float(minpix))


def _raised(data: Rows, minpix: float | str | None) -> Rows:
    if minpix is None or minpix == "auto":
        return data

    def raised(part: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):  # -1e300 is -inf in single precision, which raises nothing
            return np.maximum(part, minpix)

    return Derived(data, raised)


def measure_sky(
    image: StandardImage,
    bad: Rows | None,
    rms: np.ndarray | None,
    options: Options,
    *,
    box: int,
    network: SkyFunction | None,
    run: Run = IN_MEMORY,
) -> MeasuredSky:
    """Level and noise of the sky, in units of ``image.scale``.

    ``rms`` is the rms map of a weight map, which is changed in place. ``box`` is the side of a cell in
    pixels, unless the options have one. Without a network, in maps of few counts, and where levels or the
    noise differ by more than a network knows, the sky is a mesh of clipped modes, as SExtractor's. Raises
    ValueError if the normalisation factor is far from the noise.
    """
    hidden = bad if rms is None else either(bad, unreliable_pixels(rms))
    x, box = image.pixels, options.box or box
    sky = None
    even = rms is None or is_even(rms)
    if even and network is not None and options.sky == "network" and not one_count(x, hidden):
        step = quantisation_step(x, hidden)
        statistics = block_statistics(x, hidden, step=step, run=run)
        if statistics.good.any() and is_in_range(statistics.planes):
            sky = sky_of_network(statistics, network, box=box, step=step)
    if sky is None:
        sky = sky_of_mesh(estimate_mesh(x, hidden, box=box, run=run))
    if options.norm:
        rms_of_norm = _rms_of_norm(options.norm, image.scale)
        sky = sky.with_noise(rms_mesh=np.full_like(sky.mesh.rms_mesh, rms_of_norm))
    if rms is not None:
        sky = sky.with_noise(rms_map=weighted_mesh(sky.local, x, bad, rms).rms_map)
    return sky


def _rms_of_norm(norm: float, scale: float) -> float:
    """The noise, in units of ``scale``, that a normalisation factor brings to 1."""
    if not 1 / BRIGHTEST < norm * scale < BRIGHTEST:
        raise ValueError(f"norm {norm:g} is out of range, the noise is about {scale:.3g}")
    return 1 / (norm * scale)


@dataclass(frozen=True, eq=False)
class SkyMap:
    """The sky of an image in data units, evaluated in float64 a strip of rows at a time.

    Parameters
    ----------
    sky : MeasuredSky
        In units of ``scale``.
    center, scale : float
        As of `StandardImage`.
    wide : Rows, optional
        Wide light beside that in the sources of the network, in units of ``scale``; None where there is none.
    in_background : bool
        Whether it belongs to the background, not to the sources.
    """

    sky: MeasuredSky
    center: float
    scale: float
    wide: Rows | None = None
    in_background: bool = False

    @property
    def mesh(self) -> Mesh:
        """Level and noise in units of ``scale``, without wide light."""
        return self.sky.mesh

    @property
    def background(self) -> Rows:
        """Level of each pixel, float64 of shape (ny, nx)."""
        level, wide = self.mesh.background, self.wide if self.in_background else None

        def background(rows: slice) -> np.ndarray:
            strip = level[rows] if wide is None else level[rows] + wide[rows]
            return self.center + self._unit * strip

        return Computed(self.mesh.shape, np.float64, background)

    @property
    def wide_light(self) -> Rows | None:
        """Wide light in each pixel, float64 of shape (ny, nx), in the sources or in the background."""
        wide = self.wide
        if wide is None:
            return None
        return Computed(self.mesh.shape, np.float64, lambda rows: self._unit * wide[rows])

    @property
    def error(self) -> Rows:
        """Standard deviation of the error of the level of each pixel, float64 of shape (ny, nx)."""
        error = self.sky.error
        return Computed(self.mesh.shape, np.float64, lambda rows: self._unit * error[rows])

    @property
    def rms(self) -> Rows:
        """Noise of each pixel, float64 of shape (ny, nx)."""
        rms = self.mesh.rms
        return Computed(self.mesh.shape, np.float64, lambda rows: self._unit * rms[rows])

    @property
    def background_mesh(self) -> np.ndarray:
        """Level of each cell of the mesh, float64 of shape (my, mx)."""
        return self.center + self.scale * self.mesh.background_mesh.astype(np.float64)

    @property
    def rms_mesh(self) -> np.ndarray:
        """Noise of each cell of the mesh, float64 of shape (my, mx)."""
        return self.scale * self.mesh.rms_mesh.astype(np.float64)

    @property
    def median_level(self) -> float:
        """Median of the level over the mesh."""
        return float(
            self.center + self.scale * np.median(self.mesh.background_mesh.astype(np.float64))
        )

    @property
    def median_rms(self) -> float:
        """Median of the noise over the mesh."""
        return float(self.scale * np.median(self.mesh.rms_mesh.astype(np.float64)))

    @property
    def _unit(self) -> np.float64:
        return np.float64(self.scale)
