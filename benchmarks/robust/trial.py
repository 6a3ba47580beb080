"""One broken file: made from its seed, run through bgrem, and its outcome judged."""

import json
import os
import resource
import shutil
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits
from base_files import KINDS, base_file, packed
from mutations import mutated

from bgrem.arrays.rows import MEMORY
from bgrem.inference.model import load_model
from bgrem.io.reading import FitsError, read_image
from bgrem.io.restore import undo
from bgrem.processing.files import process_files
from bgrem.processing.outcome import Failure
from bgrem.storage.hdus import find_units, ones_complement_sum, words_of
from bgrem.storage.opening import read_contents

__all__ = ["broken_file", "judged", "work"]

MOST_MEMORY = 2e9  # bytes
ADDRESSES = 8 << 30  # bytes: a limit on what a process may reserve
LONGEST = 300  # characters of a sentence, without the name of the file
VARIANTS = 12
OPTIONS = (
    {}, {}, {}, {"hdu": "all"}, {"hdu": "all", "save": ("background", "noise")},
    {"save": ("background", "noise")}, {"save": ("background", "noise"), "keep_level": True},
    {"save": ("background", "noise", "rms", "mask"), "nonnegative": True}, {"hdu": 1},
    {"memory": 1.5e9}, {"companions": False}, {"hdu": "SCI"},
)  # fmt: skip


class Fault(Exception):
    """Why an outcome is neither a right output nor a right refusal."""


def broken_file(seed, outputs):
    """The name, the bytes, the options and a description of the file of a seed.

    ``outputs`` are files that bgrem wrote; some of the files are made from them.
    """
    rng = np.random.default_rng([20_261_129, seed])
    if rng.random() < 0.12:
        kind = "output"
        contents = outputs[int(rng.integers(len(outputs)))]
    else:
        kind = str(rng.choice(KINDS))
        contents = base_file(kind, int(rng.integers(VARIANTS)))
    suffix = str(rng.choice(["", ".gz", ".bz2"], p=[0.9, 0.06, 0.04]))
    names = []
    if suffix and rng.random() < 0.4:
        stream = bytearray(packed(contents, suffix))
        for _ in range(int(rng.integers(1, 5))):
            stream[int(rng.integers(len(stream)))] ^= 1 << int(rng.integers(8))
        contents, names = bytes(stream), ["stream of the whole file"]
    else:
        contents, names = mutated(rng, contents)
        contents = packed(contents, suffix)
    options = OPTIONS[int(rng.integers(len(OPTIONS)))]
    if kind == "output" and rng.random() < 0.6:
        options = {"undo": True}
    name = f"f{seed}.fits{'.fz' if kind.split()[0].endswith(('_1', '_2')) else ''}{suffix}"
    return name, contents, dict(options), f"{kind}: {', '.join(names)}; {options}"


def work(folder, real):
    """Take seeds from stdin, give outcomes on stdout, as lines."""
    sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    models = _models()
    outputs = _outputs(models[0])
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    warnings.simplefilter("always")
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        seed = int(line)
        outcome = judged(seed, models[int(seed % 1000 < 1000 * real)], outputs, folder)
        answers.write(json.dumps(outcome) + "\n")
        answers.flush()


def _models():
    import onnx
    from toy_models import toy_card, toy_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "toy.onnx")
        onnx.save(toy_onnx(toy_card()), path)
        toy = load_model(path, threads=1)
    return toy, load_model("optical", threads=1)


def _outputs(model):
    """Files that bgrem wrote, from which they can be undone."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("int16", "uint16", "float32", "cube", "RICE_1 int16", "extensions"):
            path = Path(folder, f"{kind}.fits")
            path.write_bytes(base_file(kind, 1))
            options = {
                "save": ("background", "noise"),
                "hdu": "all" if kind == "extensions" else None,
            }
            (outcome,) = process_files([path], model=model, **options)
            found.append(outcome.output.read_bytes())
    return found


def judged(seed, model, outputs, folder):
    """The outcome of a seed; the file of a fault is kept."""
    name, contents, options, description = broken_file(seed, outputs)
    place = Path(folder, f"trial-{os.getpid()}")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    path = place / name
    path.write_bytes(contents)
    kept = Path(folder, f"seed{seed}-{name}")
    kept.write_bytes(contents)  # before, because the process may die
    _forget_peak()
    said = _Stderr()
    try:
        with said:
            verdict, why = _run(path, model, options)
        if said.text:
            raise Fault(f"stderr: {said.text[:500]}")
        if path.read_bytes() != contents:
            raise Fault("the input was changed")
        if (peak := _peak()) > MOST_MEMORY:
            raise Fault(f"took {peak / 1e9:.1f} GB")
    except Fault as fault:
        verdict, why = "FAULT", str(fault)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault
        place_of = traceback.extract_tb(error.__traceback__)[-1]
        verdict, why = "FAULT", f"{type(error).__name__} in {place_of.name}: {error}"
    shutil.rmtree(place, ignore_errors=True)
    if verdict != "FAULT":
        kept.unlink()
    return {"seed": seed, "class": verdict, "why": why, "what": description, "memory": _peak()}


def _run(path, model, options):
    if options.pop("undo", False):
        try:
            written = undo(path)
        except (ValueError, OSError) as error:
            return "refused", _checked_sentence(str(error), path)
        _check_opens(written, _readable(path))
        return "written", ""
    (outcome,) = process_files([path], model=model, **options)
    if isinstance(outcome, Failure):
        return "refused", _checked_sentence(outcome.message, path)
    if len(text := str(outcome)) > 2 * LONGEST + len(str(path)) or "\n" in text:
        raise Fault(f"result {text!r}")
    for warning in outcome.warnings:
        _check_words(warning)
    saved = len(options.get("save", ()))
    count = len(read_image(path, None if options.get("hdu") == "all" else options.get("hdu")).units)
    number = None if options.get("hdu") == "all" else count + saved + (saved > 1)
    _check_opens(outcome.output, _readable(path), path, count, number)
    if {"background", "noise"} <= set(options.get("save", ())) and not options.get("nonnegative"):
        _check_undo(path, outcome.output)
    return "written", ""


def _checked_sentence(message, path):
    left = [other.name for other in path.parent.iterdir() if other != path]
    if left:
        raise Fault(f"refused, but {left} is left: {message}")
    if not message.startswith(str(path.parent)):
        raise Fault(f"does not begin with the file: {message}")
    _check_words(message.replace(str(path.parent), ""))
    return message.replace(str(path.parent), "")


def _check_words(text):
    if "\n" in text or len(text) > LONGEST:
        raise Fault(f"not one short sentence: {text}")
    for word in ("unexpected", "please report", "Traceback", "object at 0x"):
        if word in text:
            raise Fault(text)


def _opened(path):
    return fits.open(
        path, disable_image_compression=True, memmap=False, do_not_scale_image_data=True
    )


def _readable(path):
    """Which HDUs astropy reads."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _opened(path) as hdus:
                for hdu in hdus:
                    try:
                        _ = hdu.data
                        found.append(True)
                    except Exception:  # noqa: BLE001 - of a broken file
                        found.append(False)
        except Exception:  # noqa: BLE001 - of a broken file
            return found
    return found


def _check_opens(output, readable, path=None, count=0, number=None):
    """Whether astropy opens an output and reads what bgrem wrote, and what it read before."""
    before = bytes(read_contents(path, MEMORY)) if path else b""
    contents = bytes(read_contents(output, MEMORY))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            hdus = _opened(output)
        except Exception as error:  # noqa: BLE001 - to be reported
            raise Fault(f"astropy cannot open the output ({error})") from None
        with hdus:
            if corrupt := [hdu for hdu in hdus if not hasattr(hdu, "fileinfo")]:
                raise Fault(f"{len(corrupt)} HDUs of the output are corrupt for astropy")
            places = [(hdu.fileinfo()["hdrLoc"], hdu.fileinfo()["datLoc"]) for hdu in hdus]
            own = {i for i, (a, b) in enumerate(places) if path and contents[a:b] not in before}
            if path and (not own or len(hdus) < count or number not in (None, len(hdus))):
                raise Fault(f"the output has {len(hdus)} HDUs, not {number or count}")
            for i, hdu in enumerate(hdus):
                _check_hdu(hdu, i, i in own, i < len(readable) and readable[i])
        units, _ = find_units(contents, output)
    for i, unit in enumerate(units):
        # The sum of the bytes, because astropy sums the header as it would write it.
        whole = words_of(contents[unit.start : unit.end])
        if i in own and "CHECKSUM" in unit.header and ones_complement_sum(whole) != 2**32 - 1:
            raise Fault(f"wrong checksum of HDU {i} of the output")


def _check_hdu(hdu, i, own, readable):
    try:
        _ = hdu.data
    except Exception as error:  # noqa: BLE001 - to be reported
        if own or readable:
            raise Fault(f"astropy cannot read HDU {i} of the output ({error})") from None
        return


def _check_undo(path, output):
    restored = path.parent / "restored.fits"
    try:
        undo(output, restored)
    except (FitsError, OSError) as error:
        raise Fault(f"undo: {error}") from None
    before, after = _stored(path), _stored(restored)
    if len(before) != len(after):
        raise Fault(f"undo: {len(after)} HDUs instead of {len(before)}")
    for i, (one, other) in enumerate(zip(before, after, strict=True)):
        if one is not None and one.dtype.kind in "iu" and not np.array_equal(one, other):
            raise Fault(f"undo: the integers of HDU {i} differ")


def _stored(path):
    """The stored pixels of each plain image; None for other HDUs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = read_image(path)
        found = []
        for unit in image.units:
            plain = not unit.complaint and not unit.compressed
            if not plain:
                found.append(None)
                continue
            bits = unit.header["BITPIX"]
            dtype = "u1" if bits == 8 else f">{'f' if bits < 0 else 'i'}{abs(bits) // 8}"
            found.append(np.frombuffer(image.contents, dtype, int(np.prod(unit.shape)), unit.data))
        return found


class _Stderr:
    """What is written to stderr inside, by Python or not."""

    def __enter__(self):
        self._file = tempfile.TemporaryFile()
        sys.stderr.flush()
        self._before = os.dup(2)
        os.dup2(self._file.fileno(), 2)
        return self

    def __exit__(self, *_):
        sys.stderr.flush()
        os.dup2(self._before, 2)
        os.close(self._before)

        self._file.seek(0)
        self.text = self._file.read().decode("utf-8", "replace").strip()
        self._file.close()


def _forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


def _peak():
    """The peak of the memory of this process since it was forgotten, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
