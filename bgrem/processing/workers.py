"""Many images at once on one machine, in several processes that each load the model.

A process receives one image at a time. If it is killed, the image is given to another process once
more. If that one is killed, too, the image fails and the other images continue.
"""

import multiprocessing
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path

from bgrem.inference.engines import EngineWarning, cores
from bgrem.inference.model import Model, ModelError, optical_model
from bgrem.processing.files import process_files
from bgrem.processing.outcome import Failure, Result
from bgrem.processing.paths import output_path
from bgrem.storage.temporary import remove_leftovers

__all__ = ["process_locally"]

ATTEMPTS = 2  # to process an image, if the processes are killed
PATIENCE = 10.0  # seconds that a process has to clean up before it is killed


def process_locally(
    paths: Sequence[Path],
    *,
    workers: int,
    model: str,
    engine: str = "auto",
    device: str = "auto",
    digest: str | None = None,
    **options,
) -> Iterator[Result | Failure]:
    """Process images in several processes, each with its share of the cores; yield outcomes as they finish.

    Each process loads the model once, for the engine and the device; ``digest`` is the SHA-256 that its file
    must have. The options are those of `process_file`.
    """
    placing = {name: options[name] for name in ("prefix", "output_dir") if name in options}
    waiting = deque((path, 1) for path in paths)
    count = min(workers, len(waiting))
    threads = max(1, cores() // max(count, 1))
    load = partial(_load, model, digest, threads=threads, engine=engine, device=device)
    job = (load, options)
    crew = [_Worker(*job) for _ in range(count)]
    try:
        while waiting or any(worker.path for worker in crew):
            for worker in crew:
                if worker.path is None and waiting:
                    worker.give(*waiting.popleft())
            for worker in _ready(crew):
                path, attempt = worker.path, worker.attempt
                outcome = worker.take()
                if outcome is not None:
                    yield outcome
                    continue
                remove_leftovers([output_path(path, **placing)])
                crew[crew.index(worker)] = _Worker(*job)
                if attempt < ATTEMPTS:
                    waiting.append((path, attempt + 1))
                else:
                    yield Failure(path, f"{path}: {_death(worker.process.exitcode)}")
    finally:
        for worker in crew:
            worker.dismiss()
        for worker in crew:
            worker.wait()


class _Worker:
    """A process, and the image that it processes."""

    def __init__(self, load: Callable[[], Model], options: dict) -> None:
        # A new interpreter, because the runtime of the network does not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self.path: Path | None = None
        self.attempt = 0
        self.process = context.Process(target=_work, args=(far, load, options), daemon=True)
        with _no_interrupts():
            self.process.start()
        far.close()  # so that the pipe ends when the process does

    def give(self, path: Path, attempt: int) -> None:
        self.path, self.attempt = path, attempt
        with suppress(OSError):  # the process has died; `take` notices it
            self.pipe.send(path)

    def take(self) -> Result | Failure | None:
        """The outcome of the image, None if the process died."""
        self.path = None
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.wait()
            return None

    def dismiss(self) -> None:
        self.pipe.close()
        self.process.terminate()

    def wait(self) -> None:
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _ready(crew: Sequence[_Worker]) -> list[_Worker]:
    """Wait for processes that have answered or died; at least one."""
    answered = wait([worker.pipe for worker in crew if worker.path])
    return [worker for worker in crew if worker.pipe in answered]


class _no_interrupts:
    """Processes started inside ignore Ctrl-C; the parent ends them."""

    def __enter__(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            self.before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def __exit__(self, *_) -> None:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_SETMASK, self.before)


def _work(pipe: Connection, load: Callable[[], Model], options: dict) -> None:
    """Process images from the pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # those for users are in the results
    try:
        with warnings.catch_warnings():
            # The parent has loaded the same model and printed its warnings.
            warnings.simplefilter("ignore", EngineWarning)
            network = load()
    except (ValueError, OSError, MemoryError) as error:
        # The file of the model has changed, or memory is out.
        reason = str(error) or "not enough memory"
        process = partial(_failed, reason)
    else:
        process = partial(_processed, network, options)
    signal.signal(signal.SIGTERM, _leave)  # from here on there are files to be cleaned up
    with suppress(EOFError, OSError):  # the parent has closed the pipe
        while True:
            pipe.send(process(pipe.recv()))


def _load(name: str, digest: str | None, **settings) -> Model:
    model = optical_model(name, **settings)
    if digest not in (None, model.sha256):
        raise ModelError(f"the model {model.path} has changed since the batch began")
    return model


def _processed(network: Model, options: dict, path: Path) -> Result | Failure:
    return next(process_files(path, model=network, **options))


def _failed(reason: str, path: Path) -> Failure:
    return Failure(path, f"{path}: {reason}")


def _leave(signum: int, frame: object) -> None:
    """Exit so that open files are cleaned up."""
    raise SystemExit(128 + signum)


def _death(code: int | None) -> str:
    """The message for a process that has ended."""
    if code is None or code >= 0:
        return f"its process ended {ATTEMPTS} times (exit code {code})"
    hint = ", out of memory?" if -code == getattr(signal, "SIGKILL", 9) else ""
    return f"its process was killed {ATTEMPTS} times (signal {-code}{hint})"
