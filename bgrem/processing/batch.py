"""A night of images: shared out among processes, resumed where it was killed, one shard of it."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from bgrem import __version__
from bgrem.counts.counts_model import CountsModel, counts_digest
from bgrem.inference.model import Model, optical_model
from bgrem.processing.file_options import models_of
from bgrem.processing.journal import Journal, fingerprint
from bgrem.processing.outcome import Failure, Result, record, restored
from bgrem.processing.paths import check_output, expanded_paths, output_path
from bgrem.processing.workers import process_locally
from bgrem.storage.temporary import remove_leftovers

__all__ = ["process_batch"]


def process_batch(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    *,
    workers: int = 1,
    scheduler: str | None = None,
    shard: tuple[int, int] = (1, 1),
    model="auto",
    prefix: str = "BGRem_",
    output_dir: str | os.PathLike | None = None,
    overwrite: bool = False,
    **options,
) -> Iterator[Result | Failure]:
    """Process many images at once; what an earlier batch has done is not done again.

    An image is done where the journal in the folder of its output has it, with the same input (by
    size and time of change), options and model, and the output is as it was written.

    Parameters
    ----------
    paths : path or iterable of path
        As for `~bgrem.processing.files.process_files`.
    workers : int
        Number of processes. Each has cores / workers threads, and its own model.
    scheduler : str, optional
        Address of a Dask scheduler, on whose workers the images are processed instead.
    shard : tuple of int
        (i, n), i from 1: only every n-th image, from the i-th on.
    model : str, path or Model
        One that is given loaded is loaded again by each process, for the same engine and device.
    prefix, output_dir, overwrite, **options
        As for `~bgrem.processing.files.process_file`, but for ``progress``.

    Yields
    ------
    Result or Failure
        One for each image, as they are done; those done before come first, as a
        `Result` that is ``resumed``.

    Raises
    ------
    ModelError
        If the model cannot be used.
    ValueError
        If there is no such shard, or no such scheduler.
    ImportError
        If there is a scheduler, but Dask is not installed.
    """
    number, count = shard
    if not 1 <= number <= count:
        raise ValueError(f"there is no shard {number} of {count}")
    model, counts = models_of(model)
    # A loaded model of counts maps is loaded again by each process.
    options = {"counts": str(counts.path) if isinstance(counts, CountsModel) else counts} | options
    network = optical_model(model, threads=1)
    plan = _Plan(Journal(f"-{number}-of-{count}" if count > 1 else ""), network, options)
    inputs: dict[Path, Path] = {}
    for i, path in enumerate(expanded_paths(paths, prefix)):
        if isinstance(path, Path):
            output = output_path(path, prefix=prefix, output_dir=output_dir)
            first = inputs.setdefault(output, path)
            if first != path:
                path = Failure(path, f"{path}: its output {output} is already that of {first}")
        if i % count != number - 1:
            continue
        outcome = path if isinstance(path, Failure) else plan.settled(path, output, overwrite)
        if outcome is not None:
            yield outcome
    # Whatever is there now under a planned name was written by this batch, or by its killed
    # predecessor.
    job = {"model": str(network.path), **network.asked, "prefix": prefix, "output_dir": output_dir}
    for outcome in _processed(
        list(plan.keys), workers, scheduler, network.sha256, overwrite=True, **job, **options
    ):
        plan.note(outcome)
        yield outcome
    remove_leftovers(output for output, path in inputs.items() if path in plan.keys)


def _processed(paths, workers, scheduler, digest, **job) -> Iterator[Result | Failure]:
    if scheduler is None:
        return process_locally(paths, workers=workers, digest=digest, **job)
    from bgrem.processing.cluster import process_on_cluster

    return process_on_cluster(paths, scheduler=scheduler, **job)


class _Plan:
    """What is left to be done, with the fingerprint of each image."""

    def __init__(self, journal: Journal, network: Model, options: dict) -> None:
        self.keys: dict[Path, str] = {}
        self._journal = journal
        self._network = network
        # The result does not depend on the memory that it may take, but a little on the engine.
        counts = counts_digest(options["counts"])
        options = options | {"engine": str(network.engine), "counts model": counts}
        self._options = {k: v for k, v in options.items() if k != "memory"}

    def settled(self, path: Path, output: Path, overwrite: bool) -> Result | Failure | None:
        """Plan an image; the outcome, where it is done or cannot be."""
        try:
            return self._settled(path, output, overwrite)
        except ValueError as error:
            return Failure(path, str(error))
        except OSError as error:
            return Failure(path, f"{error.filename or path}: {error.strerror or error}")

    def _settled(self, path: Path, output: Path, overwrite: bool) -> Result | None:
        check_output(output, path, overwrite=True)
        key = fingerprint(path, self._options, version=__version__, model=self._network.sha256)
        done = self._journal.result(output, key)
        if done and all(Path(done[n]).exists() for n in ("report", "catalog") if done.get(n)):
            return restored(done)
        check_output(output, path, overwrite or self._journal.was_planned(output, key))
        self._journal.plan(output, key)
        self.keys[path] = key
        return None

    def note(self, outcome: Result | Failure) -> None:
        if isinstance(outcome, Result):
            self._journal.note(outcome.output, self.keys[outcome.input], record(outcome))
