"""A separation in the shape of photutils' ``Background2D``, for code that was written for one."""

import warnings
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bgrem.arrays.containers import checked_mask, unwrap
from bgrem.arrays.rows import Rows
from bgrem.arrays.tiling import row_strips
from bgrem.interfaces.removal import separate_frame, warn_of
from bgrem.masks.flags import MASKED, NOT_FINITE, UNSEEN
from bgrem.options import SMALLEST_IMAGE
from bgrem.separation import Separation, constant_separation

__all__ = ["DiffusionBackground2D"]

CLIPPING = 3.0  # in rms: pixels that are further from the background are not counted as sky
# Keywords of photutils' Background2D that have no effect here, and their defaults.
WITHOUT_EFFECT = {
    "exclude_percentile": 10.0,
    "filter_size": (3, 3),
    "filter_threshold": None,
    "sigma_clip": "default",
    "bkg_estimator": None,
    "bkg_rms_estimator": None,
}
DEPRECATED = ("interpolator", "bkgrms_estimator", "edge_method")  # by photutils
NON_FINITE = "Input data contains {}non-finite (NaN or infinity) values"


class DiffusionBackground2D:
    """Background of an image, with the keywords and the attributes of a photutils ``Background2D``.

    Arrays are quantities where the data have a unit. They have the dtype of the data where these
    are floats, else float32. A constant image has a constant background with an rms of 0.

    Parameters
    ----------
    data : array_like, `~astropy.units.Quantity`, `~astropy.nddata.NDData` or masked array
        Image of shape (ny, nx). It is not changed.
    box_size : int or (int, int), optional
        Shape (ny, nx) of the boxes of the meshes in pixels, at most that of the image. The larger of
        the two, and at least 16 pixels, is the ``box`` of `separate`: the side of a cell with
        ``sky="mesh"``, and the width of wide light. Default: the box of the model's training.
    mask : array_like of bool, optional
        True where a pixel is bad, in addition to the mask that ``data`` may have. The background
        continues there.
    coverage_mask : array_like of bool, optional
        True where there are no data: background and rms are ``fill_value`` there.
    fill_value : float
        The default is 0.
    exclude_percentile, filter_size, filter_threshold, sigma_clip, bkg_estimator, bkg_rms_estimator
        Accepted for compatibility, without effect: the networks have no such estimators and
        filters. A warning names those that differ from photutils' defaults.
    **options
        As for `separate`: ``weight``, ``weight_type``, ``saturate``, ``model``, ``steps``,
        ``norm``, ``minpix``, ``fwhm``, ``sky``, ``extended``, ``box``, ``tile``, ``maps``, ``progress``.
        ``interpolator``, ``bkgrms_estimator`` and ``edge_method`` are accepted without effect.

    Attributes
    ----------
    box_size, coverage_mask, fill_value, ...
        As they were given.
    significance : `~numpy.ndarray` or None
        SIGNIF, as in `Separation`; None if the model gives none.
    mask : `~numpy.ndarray`
        Bits as in `Separation`.
    provenance : `~bgrem.separation.Provenance`
        How the parts came about.

    Raises
    ------
    ValueError
        As for `separate`; where masks do not have the shape of the data, ``box_size`` or
        ``filter_size`` are not one or two whole numbers above 0, or no pixel is good.

    Warns
    -----
    `~astropy.utils.exceptions.AstropyUserWarning`
        As for `remove_background`; where keywords have no effect, and where pixels are not finite
        and not masked.

    Examples
    --------
    A sky that rises from 1000 to 1100 adu, with a noise of 10 adu:

    >>> import numpy as np
    >>> from bgrem import DiffusionBackground2D
    >>> level = np.linspace(1000, 1100, 256) * np.ones((256, 1))
    >>> data = level + np.random.default_rng(1).normal(0, 10, level.shape)
    >>> sky = DiffusionBackground2D(data, box_size=64, fwhm=4.0)
    >>> bool(np.abs(sky.background - level).max() < 5)
    True
    >>> bool(abs(sky.background_rms_median - 10) < 0.5)
    True
    """

    def __init__(
        self,
        data: Any,
        box_size: int | tuple[int, int] | None = None,
        *,
        mask: ArrayLike | None = None,
        coverage_mask: ArrayLike | None = None,
        fill_value: float = 0.0,
        exclude_percentile: float = 10.0,
        filter_size: int | tuple[int, int] = (3, 3),
        filter_threshold: float | None = None,
        sigma_clip: Any = "default",
        bkg_estimator: Callable | None = None,
        bkg_rms_estimator: Callable | None = None,
        **options: Any,
    ) -> None:
        pixels, own_mask, _ = unwrap(data, None)
        if pixels.ndim != 2:
            raise ValueError("data must be a 2D array")
        mask = checked_mask(mask, "mask", pixels.shape)
        self.coverage_mask = checked_mask(coverage_mask, "coverage_mask", pixels.shape)
        self.fill_value, self.exclude_percentile = fill_value, exclude_percentile
        if not 0 <= exclude_percentile <= 100:
            raise ValueError("exclude_percentile must be between 0 and 100 (inclusive)")
        self.filter_size = _as_pair("filter_size", filter_size)
        if (self.filter_size % 2 == 0).any():
            raise ValueError("filter_size must have an odd value for both axes")
        self.filter_threshold, self.sigma_clip = filter_threshold, sigma_clip
        self.bkg_estimator, self.bkg_rms_estimator = bkg_estimator, bkg_rms_estimator
        self.interpolator = options.get("interpolator")
        _warn_without_effect(vars(self), {k: options.pop(k, None) for k in DEPRECATED})
        if box_size is not None:
            self.box_size = np.minimum(_as_pair("box_size", box_size), pixels.shape)
            options.setdefault("box", max(SMALLEST_IMAGE, int(self.box_size.max())))

        self._unit = getattr(data, "unit", None)
        self._dtype = pixels.dtype if pixels.dtype.kind == "f" else np.dtype(np.float32)
        self._has_mask = mask is not None
        given = (checked_mask(own_mask, "mask", pixels.shape), mask, self.coverage_mask)
        given = [each for each in given if each is not None]
        masked = np.any(given, axis=0) if given else None
        self._parts = _constant(pixels, masked) or separate_frame(pixels, mask=masked, **options)
        warn_of(self._parts)
        if box_size is None:
            self.box_size = np.minimum(self._parts.sky.mesh.box, pixels.shape)
        self.significance, self.mask = self._parts.significance, self._parts.mask
        self.provenance = self._parts.provenance

    def _repr_values(self) -> dict[str, object]:
        """The parameters; arrays by their shape."""
        array = f"<array; shape={self._parts.data.shape}>"
        return {
            "data": array,
            "box_size": self.box_size,
            "mask": array if self._has_mask else None,
            "coverage_mask": None if self.coverage_mask is None else array,
            "fill_value": self.fill_value,
        }

    def __repr__(self) -> str:
        values = ", ".join(f"{key}={value}" for key, value in self._repr_values().items())
        return f"{type(self).__name__}({values})"

    def __str__(self) -> str:
        lines = [f"\n{key}: {value}" for key, value in self._repr_values().items()]
        return f"<{type(self).__module__}.{type(self).__name__}>{''.join(lines)}"

    def _with_unit(self, part: Any) -> Any:
        return part if part is None or self._unit is None else part << self._unit

    @np.errstate(all="ignore")
    def _image(self, part: Rows) -> Any:
        """A smooth part at each pixel, in memory of its own."""
        image = np.empty(self._parts.data.shape, self._dtype)
        for rows in row_strips(image.shape):
            image[rows] = part[rows]
        if self.coverage_mask is not None:
            image[self.coverage_mask] = self.fill_value
        return self._with_unit(image)

    @np.errstate(all="ignore")
    def _mesh(self, part: Rows) -> Any:
        """The mean of a smooth part in each box."""
        down, across = self._edges
        sums = [
            np.add.reduceat(part[top:bottom].sum(axis=0, dtype=np.float64), across[:-1])
            for top, bottom in pairwise(down)
        ]
        counts = np.outer(np.diff(down), np.diff(across))
        return self._with_unit((np.array(sums) / counts).astype(self._dtype))

    @cached_property
    def _edges(self) -> list[np.ndarray]:
        """The edges of the boxes along y and x, in pixels; the last boxes may be smaller."""
        pairs = zip(self._parts.data.shape, self.box_size, strict=True)
        return [np.append(np.arange(0, n, side), n) for n, side in pairs]

    @property
    def background(self) -> Any:
        """The smooth sky, computed at each access."""
        return self._image(self._parts.sky.background)

    @property
    def background_rms(self) -> Any:
        """Standard deviation of the noise of the sky, computed at each access."""
        return self._image(self._parts.sky.rms)

    @property
    def background_error(self) -> Any:
        """Standard deviation of the error of the background, computed at each access."""
        return self._image(self._parts.sky.error)

    @cached_property
    def background_mesh(self) -> Any:
        """Mean of the background in each box, (my, mx)."""
        return self._mesh(self._parts.sky.background)

    @cached_property
    def background_rms_mesh(self) -> Any:
        """Mean of the rms in each box, (my, mx)."""
        return self._mesh(self._parts.sky.rms)

    @property
    def background_median(self) -> Any:
        """Median of ``background_mesh``."""
        return np.median(self.background_mesh)

    @property
    def background_rms_median(self) -> Any:
        """Median of ``background_rms_mesh``."""
        return np.median(self.background_rms_mesh)

    @cached_property
    def n_pixels_mesh(self) -> np.ndarray:
        """Number of pixels of sky in each box, int64 of shape (my, mx).

        These are not masked and within 3 rms of the background.
        """
        down, across = self._edges
        return np.array(
            [
                np.add.reduceat(self._sky_pixels(slice(top, bottom)).sum(axis=0), across[:-1])
                for top, bottom in pairwise(down)
            ],
            dtype=np.int64,
        )

    @np.errstate(all="ignore")
    def _sky_pixels(self, rows: slice) -> np.ndarray:
        parts = self._parts
        rest = np.abs(parts.data[rows] - parts.sky.background[rows])
        return ((parts.mask[rows] & UNSEEN) == 0) & (rest <= CLIPPING * parts.sky.rms[rows])

    @property
    def n_pixels_map(self) -> np.ndarray:
        """``n_pixels_mesh`` at every pixel, int64 of shape (ny, nx)."""
        down, across = (np.diff(edges) for edges in self._edges)
        return np.repeat(np.repeat(self.n_pixels_mesh, down, axis=0), across, axis=1)

    @property
    def npixels_mesh(self) -> np.ndarray:
        """The old name of ``n_pixels_mesh``."""
        _warn_old_name("npixels_mesh", "n_pixels_mesh")
        return self.n_pixels_mesh

    @property
    def npixels_map(self) -> np.ndarray:
        """The old name of ``n_pixels_map``."""
        _warn_old_name("npixels_map", "n_pixels_map")
        return self.n_pixels_map

    @property
    def sources(self) -> Any:
        """Stars, galaxies and all else that is not sky or noise."""
        return self._with_unit(self._parts.sources)

    @property
    def noise(self) -> Any:
        """What is neither sources nor background."""
        noise = self._parts.noise
        if self.coverage_mask is not None:
            noise = noise.copy()
            noise[self.coverage_mask] = self._parts.data[self.coverage_mask] - self.fill_value
        return self._with_unit(noise)

    @property
    def uncertainty(self) -> Any:
        """Standard deviation of the sources."""
        return self._with_unit(self._parts.uncertainty)

    def plot_meshes(
        self,
        *,
        ax: Any = None,
        marker: str = "+",
        markersize: float | None = None,
        color: Any = "blue",
        alpha: float | None = None,
        outlines: bool = False,
        **kwargs: Any,
    ) -> None:
        """Plot the centres of the boxes of the meshes, and their outlines.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            Default: the current axes.
        marker, markersize, color, alpha
            Of the centres, as for `~matplotlib.axes.Axes.scatter`.
        outlines : bool
            Whether the outlines are drawn.
        **kwargs
            Of the outlines, as for `~matplotlib.patches.Patch`.
        """
        import matplotlib.pyplot as plt
        from matplotlib.patches import Rectangle

        ax = plt.gca() if ax is None else ax
        down, across = (edges - 0.5 for edges in self._edges)
        y, x = np.meshgrid(_middles(down), _middles(across), indexing="ij")
        ax.scatter(x, y, s=markersize, marker=marker, color=color, alpha=alpha)
        if outlines:
            kwargs = {"fill": False, **kwargs, "color": color, "alpha": alpha}
            for bottom, top in pairwise(down):
                for left, right in pairwise(across):
                    ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, **kwargs))


def _middles(edges: np.ndarray) -> np.ndarray:
    return (edges[:-1] + edges[1:]) / 2


def _as_pair(name: str, value: ArrayLike) -> np.ndarray:
    """One or two whole numbers above 0 as two."""
    pair = np.atleast_1d(value)
    if pair.ndim != 1 or len(pair) not in (1, 2):
        raise ValueError(f"{name} must have 1 or 2 elements")
    if pair.dtype.kind not in "iu":
        raise ValueError(f"{name} must have integer values")
    if (pair <= 0).any():
        raise ValueError(f"{name} must be > 0")
    return np.array([pair[0], pair[-1]], dtype=int)


def _warn_without_effect(given: dict[str, Any], deprecated: dict[str, Any]) -> None:
    """Name the keywords that are accepted for compatibility and were changed from their defaults."""
    from astropy.utils.exceptions import AstropyDeprecationWarning, AstropyUserWarning

    names = [
        name
        for name, default in WITHOUT_EFFECT.items()
        if given[name] is not default and not np.array_equal(given[name], default)
    ]
    if names:
        verb = "have" if len(names) > 1 else "has"
        names = ", ".join(names)
        message = f"{names} {verb} no effect: the model has no such estimators and filters"
        warnings.warn(message, AstropyUserWarning, stacklevel=3)
    for name, value in deprecated.items():
        if value is not None:
            message = f"'{name}' was deprecated by photutils and has no effect"
            warnings.warn(message, AstropyDeprecationWarning, stacklevel=3)


def _warn_old_name(old: str, new: str) -> None:
    from astropy.utils.exceptions import AstropyDeprecationWarning

    message = f"{old} was deprecated by photutils, use {new}"
    warnings.warn(message, AstropyDeprecationWarning, stacklevel=3)


def _constant(data: np.ndarray, mask: np.ndarray | None) -> Separation | None:
    """The parts of an image whose good pixels have one value, without a model; None for another.

    Warns of pixels that are neither finite nor masked. Raises ValueError if fewer than 2 are good.
    """
    from astropy.utils.exceptions import AstropyUserWarning

    if data.dtype.kind not in "iuf":
        return None  # it is refused later
    good = np.isfinite(data)
    if not good.any():
        raise ValueError(NON_FINITE.format("all ") + ". Cannot compute a background.")
    flags = np.where(good, 0, NOT_FINITE).astype(np.uint8)
    masked = np.zeros(data.shape, bool) if mask is None else mask
    flags[masked] |= MASKED
    if (~good & ~masked).any():
        message = NON_FINITE.format("") + ", which were automatically masked."
        warnings.warn(message, AstropyUserWarning, stacklevel=3)
    good &= ~masked
    if not good.any():
        raise ValueError("All input pixels are masked. Cannot compute a background.")
    if np.count_nonzero(good) == 1:
        raise ValueError("All boxes contain <= 1 unmasked or finite pixels, too few for a noise.")
    values = data[good]
    constant = (values == values[0]).all()
    return constant_separation(data, flags, float(values[0])) if constant else None
