"""A separation in the shape of photutils' ``Background2D``, for code that was written for one."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bgrem.background import separate
from bgrem.removal import warn_of

__all__ = ["DiffusionBackground2D"]


class DiffusionBackground2D:
    """Background of an image, with the attributes of a photutils ``Background2D``.

    They are arrays, or quantities where the data have a unit.

    Parameters
    ----------
    data : array_like, `~astropy.units.Quantity`, `~astropy.nddata.NDData` or masked array
        Image of shape (ny, nx).
    box_size : int or (int, int), optional
        Side of a cell of the sky mesh in pixels, the larger of two. Default: that of the model's
        training. The other options of a ``Background2D``, on filters and estimators, have no
        counterpart and are refused.
    mask : array_like of bool, optional
        True where a pixel is bad, in addition to the mask that ``data`` may have.
    coverage_mask : array_like of bool, optional
        True where there are no data; taken as ``mask``.
    **options
        As for `separate`: ``weight``, ``weight_type``, ``saturate``, ``model``, ``steps``,
        ``norm``, ``minpix``, ``fwhm``, ``box``, ``tile``, ``maps``, ``progress``.

    Attributes
    ----------
    significance : `~numpy.ndarray` or None
        SIGNIF, as in `Separation`; None if the model gives none.
    mask : `~numpy.ndarray`
        Bits as in `Separation`.
    provenance : `~bgrem.separation.Provenance`
        How the parts came about.

    Raises
    ------
    ValueError
        As for `separate`.

    Warns
    -----
    `~astropy.utils.exceptions.AstropyUserWarning`
        As for `remove_background`.

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
        **options: Any,
    ) -> None:
        if box_size is not None:
            options["box"] = int(np.max(box_size))
        self._parts = separate(data, mask=_either(mask, coverage_mask), **options)
        warn_of(self._parts)
        self._unit = getattr(data, "unit", None)
        self.significance = self._parts.significance
        self.mask = self._parts.mask
        self.provenance = self._parts.provenance

    def _with_unit(self, part: Any) -> Any:
        return part if part is None or self._unit is None else part << self._unit

    @property
    def background(self) -> Any:
        """The smooth sky."""
        return self._with_unit(self._parts.background)

    @property
    def background_rms(self) -> Any:
        """Standard deviation of the noise of the sky."""
        return self._with_unit(self._parts.rms)

    @property
    def background_median(self) -> Any:
        """Median of the sky mesh."""
        return self._with_unit(self._parts.sky.median_level)

    @property
    def background_rms_median(self) -> Any:
        """Median of the noise over the sky mesh."""
        return self._with_unit(self._parts.sky.median_rms)

    @property
    def background_mesh(self) -> Any:
        """Level of each cell of the sky mesh, (my, mx)."""
        return self._with_unit(self._parts.sky.background_mesh)

    @property
    def background_rms_mesh(self) -> Any:
        """Noise of each cell of the sky mesh, (my, mx)."""
        return self._with_unit(self._parts.sky.rms_mesh)

    @property
    def n_pixels_mesh(self) -> np.ndarray:
        """Number of pixels of sky in each cell of the mesh, int64 of shape (my, mx)."""
        mesh = self._parts.sky.mesh
        down, across = (np.diff(edges) for edges in self._parts.sky.mesh.edges)
        seen = 1.0 if mesh.hidden is None else 1.0 - mesh.hidden
        return np.rint(np.outer(down, across) * seen).astype(np.int64)

    @property
    def n_pixels_map(self) -> np.ndarray:
        """``n_pixels_mesh`` at every pixel, int64 of shape (ny, nx)."""
        down, across = (np.diff(edges) for edges in self._parts.sky.mesh.edges)
        return np.repeat(np.repeat(self.n_pixels_mesh, down, axis=0), across, axis=1)

    @property
    def sources(self) -> Any:
        """Stars, galaxies and all else that is not sky or noise."""
        return self._with_unit(self._parts.sources)

    @property
    def noise(self) -> Any:
        """What is neither sources nor background."""
        return self._with_unit(self._parts.noise)

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
        """Plot the centres of the cells of the sky mesh, and their outlines.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            Default: the current axes.
        marker, markersize, color, alpha
            Of the centres, as for `~matplotlib.axes.Axes.scatter`.
        outlines : bool
            Whether the outlines are drawn.
        **kwargs
            Of the outlines, as for `~matplotlib.collections.LineCollection`.
        """
        import matplotlib.pyplot as plt

        ax = plt.gca() if ax is None else ax
        down, across = (edges - 0.5 for edges in self._parts.sky.mesh.edges)
        y, x = np.meshgrid(_middles(down), _middles(across), indexing="ij")
        ax.scatter(x, y, s=markersize, marker=marker, color=color, alpha=alpha)
        if outlines:
            kwargs = {"linewidths": 1, **kwargs, "colors": color, "alpha": alpha}
            ax.hlines(down, across[0], across[-1], **kwargs)
            ax.vlines(across, down[0], down[-1], **kwargs)


def _middles(edges: np.ndarray) -> np.ndarray:
    return (edges[:-1] + edges[1:]) / 2


def _either(mask: ArrayLike | None, other: ArrayLike | None) -> ArrayLike | None:
    """Where either mask is set; None where neither is given."""
    if mask is None or other is None:
        return other if mask is None else mask
    return (np.asarray(mask) != 0) | (np.asarray(other) != 0)
