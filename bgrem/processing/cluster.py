"""Many images, or one huge array, on a cluster of Dask workers."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np

from bgrem.background import separate
from bgrem.inference.engines import cores
from bgrem.inference.model import Model, optical_model
from bgrem.options import MAPS
from bgrem.processing.files import process_files
from bgrem.processing.journal import named_file
from bgrem.processing.outcome import Failure, Result
from bgrem.storage.names import home_path

__all__ = ["map_blocks", "process_on_cluster"]

BLOCK_PARTS = ("sources", "background", "noise", "rms", "mask", *MAPS)
TIMEOUT = 30  # seconds to find the scheduler
_loading = Lock()


def process_on_cluster(
    paths: Sequence[Path],
    *,
    scheduler: str,
    model: str,
    engine: str = "auto",
    device: str = "auto",
    **options,
) -> Iterator[Result | Failure]:
    """Process images on the workers of a Dask cluster, and yield the outcomes as they finish.

    The workers must see the files and the model under the same names as this process. If a worker dies,
    the scheduler gives its image to another one. ``scheduler`` is an address, ``tcp://host:port``. Each
    worker loads the model once, for the engine and the device. The options are those of `process_file`.
    Raises ValueError if no scheduler answers, and ImportError if Dask is not installed.
    """
    from distributed import Client, as_completed

    # The library would log a lost connection at every attempt; it is reported once, at the end.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = Client(scheduler, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"there is no scheduler at {scheduler} ({error})") from None
    # The workers have other current folders.
    found = {name: _from_anywhere(value) for name, value in options.items()}
    asked = (str(Path(model).absolute()), engine, device)
    with client:
        peers = _peers(client)
        given = {
            client.submit(_process, path.absolute(), asked, peers, found, pure=False): path
            for path in paths
        }
        with client.as_current():  # a generator must not leave its client to its caller
            done = as_completed(given)
        for future in done:
            path = given.pop(future)
            outcome = _outcome(future, path)
            yield replace(outcome, input=path)


def _from_anywhere(value):
    """An option with the absolute path of the file or folder that it names, if any."""
    named = isinstance(value, Path) or isinstance(value, str) and named_file(value).exists()
    return os.path.abspath(home_path(value)) if named and str(value) else value


def _peers(client) -> Counter:
    """Number of images that are processed at once on each host."""
    peers: Counter = Counter()
    for address, threads in client.nthreads().items():
        peers[_host(address)] += threads
    return peers


def _host(address: str) -> str:
    """``host`` of tcp://host:port."""
    return address.rpartition("/")[2].rpartition(":")[0]


def _process(
    path: Path, asked: tuple[str, str, str], peers: Counter, options: dict
) -> Result | Failure:
    """Process an image on a worker."""
    from distributed import get_worker

    # A worker that joined later was not counted.
    threads = cores() // max(peers[_host(get_worker().address)], 1)
    network = _loaded(max(1, threads), *asked)
    return next(process_files(path, model=network, **options))


def _loaded(threads: int, model: str, engine: str, device: str) -> Model:
    """The model, loaded once per process by the first thread that needs it."""
    with _loading:
        return _load(threads, model, engine, device)


@lru_cache(maxsize=2)
def _load(threads: int, model: str, engine: str, device: str) -> Model:
    return optical_model(model, threads=threads, engine=engine, device=device)


def _outcome(future, path: Path) -> Result | Failure:
    if future.status == "finished":
        return future.result()
    error = future.exception() if future.status == "error" else None
    if type(error).__name__ == "KilledWorker":
        return Failure(path, f"{path}: its workers were killed again and again (out of memory?)")
    lost = "the connection to the cluster was lost"
    return Failure(path, f"{path}: {lost if error is None else ' '.join(str(error).split())}")


def map_blocks(
    data,
    *,
    depth: int = 256,
    part: str = "sources",
    model="optical",
    engine: str = "auto",
    device: str = "auto",
    **options,
):
    """Separate a huge Dask array lazily, block by block with overlap.

    The sky and the seeing of each block are measured on the block and ``depth`` pixels around it.
    Blocks should be several thousand pixels wide: light that fills a block is taken for sky.

    Parameters
    ----------
    data : `dask.array.Array`
        Of shape (ny, nx).
    depth : int
        Overlap with the neighbouring blocks on each side, in pixels.
    part : str
        "sources", "background", "noise", "rms", "mask", "uncertainty" or "significance".
    model : str or path
        Each worker loads it once.
    engine, device : str
        As for `~bgrem.inference.model.load_model`, on the worker.
    **options
        As for `~bgrem.background.separate`.

    Returns
    -------
    `dask.array.Array`
        Of the same shape and chunks.

    Raises
    ------
    ValueError
        If ``data`` does not have 2 axes, or there is no such part.
    ImportError
        If Dask is not installed.
    """
    import dask.array as da

    if part not in BLOCK_PARTS:
        raise ValueError(f"there is no part {part!r}; there are {', '.join(BLOCK_PARTS)}")
    if data.ndim != 2:
        raise ValueError(f"the array must have 2 axes, not {data.ndim}")
    double = data.dtype.kind == "f" and data.dtype.itemsize >= 8
    dtype = np.dtype(np.uint8 if part == "mask" else np.float64 if double else np.float32)
    maps = (part,) if part in MAPS else ()
    return da.map_overlap(
        _part_of_block, data, depth=depth, boundary="none", dtype=dtype,
        meta=np.empty((0, 0), dtype), part=part, asked=(str(model), engine, device), maps=maps,
        options=options,
    )  # fmt: skip


def _part_of_block(
    block: np.ndarray, *, part: str, asked: tuple[str, str, str], maps, options: dict
) -> np.ndarray:
    parts = separate(block, model=_loaded(1, *asked), maps=maps, **options)
    found = getattr(parts, part)
    if found is None:
        raise ValueError(f"the model gives no {part}")
    return found
