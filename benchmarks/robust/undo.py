"""Whether bgrem-undo restores the files that bgrem read.

    python benchmarks/robust/undo.py FILE|FOLDER ... [--hdu all]

Each file is separated with background and noise saved, then restored: byte for byte, before an outer gzip or bzip2. A
tile-compressed image must keep its cards and its pixels; its tiles become GZIP_2.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from bgrem import undo
from bgrem.arrays.rows import MEMORY
from bgrem.evaluate.tables import text_table
from bgrem.io.reading import read_image, sibling, stored_pixels
from bgrem.processing.files import process_file
from bgrem.storage.cards import Cards
from bgrem.storage.opening import read_contents
from bgrem.storage.tile_compression import TILE_CARDS

sys.path.append(str(Path(__file__).resolve().parents[1]))
from command import command_parser, model_of

TABLE_CARDS = ("NAXIS1", "NAXIS2", "PCOUNT", "CHECKSUM", "DATASUM")


def main():
    parser = command_parser(__doc__, threads=True)
    parser.add_argument("paths", nargs="+", type=Path, help="FITS files, or folders of them")
    parser.add_argument("--hdu", help="as for bgrem; default: the first image")
    parser.add_argument("--memory", type=float, help="bytes, as for bgrem")
    chosen = parser.parse_args()
    model = model_of(chosen)
    rows = []
    for path in chosen.paths:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(row_of(file, Path(folder), model, chosen.hdu, chosen.memory))
            print(".", end="", flush=True, file=sys.stderr)
    print(text_table(rows))
    done = [row for row in rows if row["restored"] != "refused"]
    right = sum(row["restored"] in ("same bytes", "same cards and pixels") for row in done)
    print(f"{right} of {len(done)} files restored; {len(rows) - len(done)} refused")
    return right < len(done)


def row_of(path, folder, model, hdu=None, memory=None):
    """What comes back of one file."""
    row = {"file": path.name, "pixels": "", "restored": "", "note": ""}
    try:
        output = process_file(
            path, model=model, output_dir=folder, save=("background", "noise"), hdu=hdu,
            memory=memory,
        ).output  # fmt: skip
    except ValueError as error:
        return row | {"restored": "refused", "note": str(error).partition(": ")[2][:60]}
    image, back = read_image(path), read_image(undo(output, folder / f"restored_{path.name}"))
    row["pixels"] = str(stored_pixels(image).dtype) + (" in tiles" if image.compressed else "")
    if read_contents(path, MEMORY)[:] == read_contents(back.path, MEMORY)[:]:
        return row | {"restored": "same bytes"}
    wrong = differences(image, back, read_image(output))
    return row | {"restored": "WRONG" if wrong else "same cards and pixels", "note": wrong}


def differences(image, back, output):
    """What differs though it should not; empty if nothing does."""
    if len(image.units) != len(back.units):
        return f"{len(back.units)} HDUs instead of {len(image.units)}"
    for one, two in zip(image.units, back.units, strict=True):
        product = "BGR_NHDU" in output.units[one.index].header
        if outside(image, one, product) != outside(back, two, product):
            return f"HDU {one.index}: bytes outside the pixels"
        if product and (wrong := wrong_pixels(image, back, output, one.index)):
            return f"HDU {one.index}: {wrong} pixels"
    return ""


def outside(image, unit, product):
    """All of an HDU that must be the same: all bytes, or those outside the pixels, or the cards."""
    contents = image.contents
    if unit.compressed and product:
        cards = Cards.read(contents[unit.start : unit.data])
        cards.drop(TILE_CARDS.fullmatch)
        cards.drop(TABLE_CARDS.__contains__)
        return cards.tobytes()
    last = len(contents) if unit is image.units[-1] else unit.end
    if product:
        return contents[unit.start : unit.data], contents[unit.stop : last]
    return contents[unit.start : last]


def wrong_pixels(image, back, output, hdu):
    """How many pixels are not restored."""
    image, back = sibling(image, hdu), sibling(back, hdu)
    before, after = (np.asarray(stored_pixels(i)[...]) for i in (image, back))
    if before.dtype.newbyteorder("=") != after.dtype.newbyteorder("="):
        return before.size
    kind = f"u{before.dtype.itemsize}"
    before, after = (np.ascontiguousarray(pixels).view(kind) for pixels in (before, after))
    return np.count_nonzero(before != after.astype(after.dtype, copy=False))


if __name__ == "__main__":
    raise SystemExit(main())
