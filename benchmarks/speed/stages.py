"""Where the time of the path goes: its functions, each without those that it calls.

Tiles are in the network while the thread that gave them to it goes on, so that the seconds add up to
more than the whole. Those of the network are the seconds in which at least one tile is in it.

The bytes beside each are the fewest that it must move per pixel between memory and processor if
whole images of float32 lie in memory and all else in the caches: what it is given is read once and
what it makes is written once.
"""

import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from unittest import mock

from bgrem import background
from bgrem.arrays import rows, tiling
from bgrem.inference import denoiser, model
from bgrem.processing import files
from bgrem.sky import mesh

__all__ = ["REST", "STAGES", "Stage", "Timing", "time_stages"]


@dataclass(frozen=True)
class Stage:
    """Functions whose time counts together.

    Attributes
    ----------
    name : str
    functions : tuple of (object, str)
        Who knows each, and by what name.
    bytes : float
        To be moved per pixel at least; 0 where all stays in the caches.
    """

    name: str
    functions: tuple
    bytes: float = 0.0


NETWORK, WAITING = "network", "waiting for the network"
#: In the order of the path. An image of float32 takes 4 bytes per pixel, flags take 1.
STAGES = (
    Stage("read", ((files, "read_image"),), 4 + 4),
    Stage("bad pixels", ((background, "flag_pixels"),), 4 + 1),
    Stage("centre and scale", ((background, "standardise"),), 4),
    Stage("to sky rms", ((rows.Computed, "__getitem__"),), 4 + 4),
    Stage("sky mesh", ((background, "measure_sky"),), 4),
    Stage("sky from its mesh", ((mesh.Interpolated, "at"),)),
    Stage("frame", ((background, "measure_frame"),), 4),
    Stage(NETWORK, ((model.Model, "__call__"),)),
    Stage("diffusion", ((denoiser, "reverse_diffusion"),)),
    # One plane goes in; sources and artefacts come out.
    Stage("tiles", ((denoiser, "map_tiles"), (tiling, "_tiles")), 4 + 8),
    Stage(WAITING, ((tiling, "_in_order"),)),
    Stage("saturation", ((background, "keep_saturated"),), 1),
    Stage("write", ((files, "write_mosaic"),), 4 + 4),
)
#: Subtracting the sky reads and writes a plane, and so does the way back to data units, with flags.
REST = Stage("the rest", (), 8 + 8 + 2)


@dataclass
class Timing:
    """What a run took.

    Attributes
    ----------
    seconds : dict of str to float
        Of each stage, and of the rest.
    whole : float
        Seconds of all, of which several stages may take the same ones.
    pixels : int
        That the network was given, those of overlaps and of all steps included.
    planes : int
        Channels that it gave.
    tile : tuple of int
        Shape (h, w) of the last tile.
    """

    seconds: dict
    whole: float = 0.0
    pixels: int = 0
    planes: int = 0
    tile: tuple = ()
    calls: list = field(default_factory=list)  # of the network: when each began and ended

    @property
    def outside(self):
        """Seconds in which no tile was in the network."""
        return self.whole - self.seconds[NETWORK]


class Clock:
    """Times functions without the timed ones that they call, separately in each thread."""

    def __init__(self):
        self.spent = defaultdict(float)  # by thread and name
        self._inner = defaultdict(lambda: [0.0])

    def of(self, name):
        """Seconds of a name in all threads."""
        return sum(seconds for (_, own), seconds in self.spent.items() if own == name)

    def of_this_thread(self):
        """Seconds of all names."""
        own = threading.get_ident()
        return sum(seconds for (thread, _), seconds in self.spent.items() if thread == own)

    def timed(self, name, function):
        """The function, whose time will count under that name; so does that of a generator."""

        def wrapper(*arguments, **keywords):
            result = self._run(name, function, *arguments, **keywords)
            return self._each(name, result) if hasattr(result, "__next__") else result

        return wrapper

    def _each(self, name, iterator):
        ended = object()
        while (item := self._run(name, next, iterator, ended)) is not ended:
            yield item

    def _run(self, name, function, *arguments, **keywords):
        thread = threading.get_ident()
        inner = self._inner[thread]
        inner.append(0.0)
        began = time.perf_counter()
        try:
            return function(*arguments, **keywords)
        finally:
            whole = time.perf_counter() - began
            self.spent[thread, name] += whole - inner.pop()
            inner[-1] += whole


def time_stages(path, network, *, steps=1, output_dir=None):
    """Process a frame in this process, stage by stage.

    Parameters
    ----------
    path : path
        A FITS file.
    network : bgrem.inference.model.Model
    steps : int
        Diffusion steps.
    output_dir : path, optional
        Where the output goes.

    Returns
    -------
    Timing
    """
    clock, timing = Clock(), Timing({})
    with ExitStack() as patched:
        for stage in STAGES:
            for owner, name in stage.functions:
                timed = clock.timed(stage.name, getattr(owner, name))
                patched.enter_context(mock.patch.object(owner, name, timed))
        # Outermost, so that counting is no part of the network's time.
        counted = _counted(model.Model.__call__, timing)
        patched.enter_context(mock.patch.object(model.Model, "__call__", counted))
        began = time.perf_counter()
        files.process_file(
            path, model=network, steps=steps, output_dir=output_dir, overwrite=True
        )  # fmt: skip
        timing.whole = time.perf_counter() - began
    timing.seconds = {stage.name: clock.of(stage.name) for stage in STAGES}
    timing.seconds[REST.name] = timing.whole - clock.of_this_thread()
    timing.seconds[NETWORK] = _covered(timing.calls)
    return timing


def _counted(call, timing):
    def wrapper(network, x, *arguments, **keywords):
        began = time.perf_counter()
        channels = call(network, x, *arguments, **keywords)
        timing.calls.append((began, time.perf_counter()))
        timing.pixels += x.size
        timing.planes, timing.tile = channels.shape[1], x.shape[2:]
        return channels

    return wrapper


def _covered(spans):
    """Length of the union of spans of time."""
    length, last = 0.0, 0.0
    for began, ended in sorted(spans):
        length += max(0.0, ended - max(began, last))
        last = max(last, ended)
    return length
