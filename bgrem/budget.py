"""The memory that the path takes beside whole images, which may be in files."""

from bgrem.model import ModelCard
from bgrem.scratch import CHUNK, SHARE, Scratch
from bgrem.tiling import tile_shape

__all__ = ["check_limit", "least_memory"]

PROGRAM = 200e6  # bytes: Python, the libraries, the weights
NETWORK = (
    360  # bytes per pixel of a tile, inside the network: measured on the optical model, 10 % added
)
BLOCKS = 0.6  # bytes per pixel of the image: averages of 4 x 4 pixels, by which objects are found
FLOAT = 4


def least_memory(
    shape: tuple[int, int], card: ModelCard, maps: tuple[str, ...], libraries: float = 0.0
) -> float:
    """Bytes of memory that an image takes at the least.

    Parameters
    ----------
    shape : tuple of int
        Shape (ny, nx) of the image.
    card : `~bgrem.model.ModelCard`
        Of the model.
    maps : tuple of str
        What is wanted beside the parts, as for `~bgrem.background.separate`.
    libraries : float
        Bytes that the libraries of the network's engine take beyond those of onnxruntime.

    Returns
    -------
    float
    """
    ny, nx = shape
    height, width = tile_shape(shape, tile=card.tile, overlap=card.overlap, multiple=card.multiple)
    # A row of tiles as it is read, continued and merged, the latter once per channel.
    row = (nx + card.overlap) * height * FLOAT * (2 + 2 + len(maps))
    mesh = 3 * FLOAT * nx * (ny // card.box + 1)
    strips = 20 * card.box * nx * FLOAT
    tiles = NETWORK * height * width + row + mesh
    return PROGRAM + libraries + max(tiles, BLOCKS * ny * nx + strips) + 4 * CHUNK


def check_limit(
    store: Scratch,
    shape: tuple[int, int],
    card: ModelCard,
    maps: tuple[str, ...],
    label: str,
    libraries: float = 0.0,
) -> None:
    """Refuse an image that cannot be done within the limit of a store.

    Parameters
    ----------
    store : `~bgrem.scratch.Scratch`
    shape, card, maps, libraries
        As for `least_memory`.
    label : str
        What to call the image.

    Raises
    ------
    ValueError
        If the limit is too low.
    """
    # Planes of one byte per pixel are the smallest: larger than the share, none is in memory.
    kept = store.limit / SHARE if shape[0] * shape[1] < store.limit / SHARE else 0
    least = least_memory(shape, card, maps, libraries) + kept
    if least > store.limit:
        raise ValueError(
            f"{label} of {shape[1]} x {shape[0]} pixels needs {least / 1e9:.2g} GB of memory, "
            f"more than the limit of {store.limit / 1e9:.3g} GB"
        )
