"""The memory that the path takes in addition to whole images, which may be in files."""

from bgrem.arrays.rows import CHUNK, SHARE, Memory, Scratch
from bgrem.arrays.tiling import tile_grid
from bgrem.inference.card import ModelCard
from bgrem.inference.model import Model
from bgrem.sky.blocks import LARGEST_GRID

__all__ = ["calls_within", "check_limit", "least_memory"]

PROGRAM_BYTES = 200e6  # Python, the libraries, the weights
OBJECT_BYTES = 0.6  # per pixel of the image: averages of 4 x 4 pixels, on which objects are found
FLOAT_BYTES = 4


def least_memory(
    shape: tuple[int, int],
    card: ModelCard,
    maps: tuple[str, ...],
    libraries: float = 0.0,
    *,
    calls: int = 1,
) -> float:
    """Least number of bytes of memory that an image takes.

    It has the shape (ny, nx) and the ``maps`` of `bgrem.options.Options`. ``libraries`` are the bytes that
    the libraries of the engine take beyond those of onnxruntime, ``calls`` the tiles that are in the
    network at once.
    """
    ny, nx = shape
    (height, width), _ = _grid(shape, card)
    # A row of tiles as it is read and as it is merged, the latter once per channel; copies of both.
    row = (nx + card.overlap) * height * FLOAT_BYTES * (2 + 2 + len(maps))
    # Level, its curvature and the noise in each row of cells; a sky network has twice as many planes.
    mesh = FLOAT_BYTES * nx * max(3 * (ny // card.box + 1), 8 * LARGEST_GRID // 2)
    # A row of cells in each thread, and the image.
    strips = 10 * (1 + calls) * card.box * nx * FLOAT_BYTES
    waiting = 2 * (1 + 2 + len(maps)) * FLOAT_BYTES * height * width * (calls > 1)
    tiles = calls * card.memory_per_pixel * height * width + waiting + row + mesh
    return PROGRAM_BYTES + libraries + max(tiles, OBJECT_BYTES * ny * nx + strips) + 4 * CHUNK


def check_limit(
    store: Scratch,
    shape: tuple[int, int],
    card: ModelCard,
    maps: tuple[str, ...],
    label: str,
    libraries: float = 0.0,
) -> None:
    """Refuse an image that needs more memory than the limit of a store, with a ValueError.

    ``label`` names the image in the message; the other parameters are those of `least_memory`.
    """
    least = least_memory(shape, card, maps, libraries) + _kept(store, shape)
    if least > store.limit:
        raise ValueError(
            f"{label} of {shape[1]} x {shape[0]} pixels needs {least / 1e9:.2g} GB of memory, "
            f"more than the limit of {store.limit / 1e9:.3g} GB"
        )


def calls_within(
    store: Memory,
    shape: tuple[int, int],
    model: Model,
    maps: tuple[str, ...],
    tile: int | None = None,
) -> int:
    """Number of tiles of an image that may be in the network at once, at least 1.

    It is limited by what the engine prefers, by the number of tiles, and by the store, if that has a
    limit. ``tile`` is the largest side of a tile, by default the model's.
    """
    engine, card = model.engine, model.card
    calls = min(engine.at_once, _grid(shape, card, tile)[1])
    if not isinstance(store, Scratch):
        return calls
    room = store.limit - _kept(store, shape)
    return next(
        (n for n in range(calls, 1, -1)
         if least_memory(shape, card, maps, engine.libraries, calls=n) <= room), 1,
    )  # fmt: skip


def _grid(shape: tuple[int, int], card: ModelCard, tile: int | None = None):
    """Sides of the tiles of an image, and their number."""
    return tile_grid(shape, tile=tile or card.tile, overlap=card.overlap, multiple=card.multiple)


def _kept(store: Scratch, shape: tuple[int, int]) -> float:
    """Bytes of whole images that may be in memory.

    The smallest planes have one byte per pixel. If they exceed the share, no plane is in memory.
    """
    return store.limit / SHARE if shape[0] * shape[1] < store.limit / SHARE else 0
