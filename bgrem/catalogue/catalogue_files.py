"""Catalogues as FITS, ECSV or VOTable files, and several of them as one."""

import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from astropy.table import QTable, vstack

from bgrem.catalogue.table import CATALOGUE_COLUMNS, SELECTION, UCDS
from bgrem.storage.opening import FitsError
from bgrem.storage.temporary import temporary_path

__all__ = [
    "FORMATS", "catalogue_path", "check_path", "gather_catalogues", "read_catalogue", "save_catalogue", "stacked",
    "write_catalogue",
]  # fmt: skip

FITS_SUFFIXES = (".fits", ".fit", ".fts")

#: Suffixes of catalogue files, and the formats of `astropy.table` that they stand for.
FORMATS = {
    ".fits": "fits",
    ".fit": "fits",
    ".ecsv": "ascii.ecsv",
    ".vot": "votable",
    ".xml": "votable",
}


def catalogue_path(output):
    """The path of the catalogue of an output: ``.cat.fits`` instead of ``.fits``, or after other suffixes."""
    output = Path(output)
    name = output.stem if output.suffix.lower() in FITS_SUFFIXES else output.name
    return output.with_name(f"{name}.cat.fits")


def stacked(tables, name, values):
    """One table of several, with a first column that names where each row is from.

    Parameters
    ----------
    tables : sequence of `~astropy.table.QTable`
    name : str
        Of the column: "FILE" or "PLANE".
    values : sequence of str

    Returns
    -------
    `~astropy.table.QTable`
        With the ``meta`` of the first; columns that a table lacks are masked.
    """
    whole = _marked(tables, values, name)
    whole.meta = dict(tables[0].meta)
    chosen = [
        (t.meta[SELECTION], value)
        for t, value in zip(tables, values, strict=True)
        if SELECTION in t.meta
    ]
    if chosen:
        whole.meta[SELECTION] = _marked(*zip(*chosen, strict=True), name=name)
    return whole


def _marked(tables, values, name):
    """Tables below each other, with a first column of a name that has a value for each."""
    marked = []
    for table, value in zip(tables, values, strict=True):
        table = _plain(table)
        for column in table.colnames:
            if len({str(other[column].unit) for other in tables if column in other.colnames}) > 1:
                table[column].unit = None  # the images have several
        table.add_column(np.full(len(table), value), index=0, name=name)
        marked.append(table)
    return QTable(vstack(marked))


def gather_catalogues(catalogues, path):
    """Write one catalogue of those of several images, with a column FILE.

    Parameters
    ----------
    catalogues : dict of Path to Path
        The catalogue of each image.
    path : Path
    """
    tables = [read_catalogue(catalogue) for catalogue in catalogues.values()]
    names = [str(image).encode("ascii", "backslashreplace").decode() for image in catalogues]
    table = stacked(tables, "FILE", names)
    table["NUMBER"] = np.arange(1, len(table) + 1, dtype=np.int32)
    own = ("CREATOR", "DATE", "BGR_FRAT", "BGR_PUR", SELECTION)
    table.meta = {keyword: pair for keyword, pair in table.meta.items() if keyword in own}
    save_catalogue(table, path)


def check_path(path, overwrite, others):
    """Refuse a catalogue that could not be written after the work, or that would replace one of the other files."""
    if path.suffix.lower() not in FORMATS:
        raise FitsError(f"{path}: a catalogue ends in {', '.join(FORMATS)}")
    for other in others:
        if path.absolute() == Path(other).absolute() or (
            path.exists() and Path(other).exists() and path.samefile(other)
        ):
            raise FitsError(f"{path}: the catalogue would overwrite {other}")
    if path.is_dir():
        raise FitsError(f"{path}: is a folder, the catalogue cannot be written")
    if path.exists() and not overwrite:
        raise FitsError(f"{path}: exists already (--overwrite replaces it)")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise FitsError(f"{path}: cannot be written, {folder} is no folder that can be written to")


def save_catalogue(table, path):
    """Write a catalogue that appears complete under its name or not at all."""
    temporary = temporary_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_catalogue(table, temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise FitsError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_catalogue(table, path):
    """Write a catalogue; the suffix of the name is that of its format (`FORMATS`).

    Parameters
    ----------
    table : `~astropy.table.QTable`
    path : path

    Raises
    ------
    ValueError
        If the suffix is not known.
    """
    path = Path(path)
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: a catalogue ends in {', '.join(FORMATS)}")
    if kind == "fits":
        _as_hdus(table).writeto(path, checksum=True)
    elif kind == "votable":
        _as_votable(table).to_xml(str(path))
    else:
        plain = table.copy(copy_data=False)
        if not len(plain):  # ECSV has no empty columns of vectors
            plain.remove_columns([name for name in plain.colnames if plain[name].ndim > 1])
        plain.meta = {keyword: value for keyword, (value, _) in _cards(table).items()}
        if SELECTION in table.meta:
            plain.meta[SELECTION] = _lists_of(table.meta[SELECTION])
        for name in plain.colnames:
            plain[name].info.meta = {"ucd": UCDS[name]} if name in UCDS else {}
        plain.write(path, format=kind)


def read_catalogue(path):
    """A catalogue of `write_catalogue` in FITS, with its ``meta`` and descriptions.

    Parameters
    ----------
    path : path

    Returns
    -------
    `~astropy.table.QTable`
    """
    from astropy.io import fits

    table = QTable.read(path, format="fits", hdu=1)
    header = fits.getheader(path, 1)
    own = [k for k in header if k.startswith("BGR_") or k in ("CREATOR", "DATE", "RADESYS")]
    table.meta = {keyword: (header[keyword], header.comments[keyword]) for keyword in own}
    for name in set(table.colnames) & set(CATALOGUE_COLUMNS):
        table[name].info.description = CATALOGUE_COLUMNS[name].description
    with fits.open(path) as hdus:
        if SELECTION in hdus:
            table.meta[SELECTION] = QTable.read(hdus[SELECTION])
    return table


def _cards(table):
    """The entries of ``meta`` that are cards: keyword -> (value, comment)."""
    return {keyword: pair for keyword, pair in table.meta.items() if keyword != SELECTION}


def _lists_of(table):
    return {name: np.asarray(table[name]).tolist() for name in table.colnames}


def _plain(table):
    """The table without quantities, units as FITS and VO write them."""
    from astropy.table import Table

    plain = Table(table)
    plain.meta = {}
    return plain


def _as_hdus(table):
    from astropy.io import fits

    hdus = [fits.PrimaryHDU(), _table_hdu(table, "SOURCES", UCDS)]
    for keyword, (value, comment) in _cards(table).items():
        hdus[1].header[keyword] = (value, comment)
    if SELECTION in table.meta:
        hdus.append(_table_hdu(table.meta[SELECTION], SELECTION, {}))
    return fits.HDUList(hdus)


def _table_hdu(table, name, ucds):
    """An HDU whose header has the descriptions and UCDs of the columns."""
    from astropy.io import fits

    plain = _plain(table)
    units = {column: plain[column].unit for column in plain.colnames}
    for column in plain.colnames:
        plain[column].unit = None
    hdu = fits.table_to_hdu(plain)
    hdu.name = name
    for column, unit in units.items():
        # As a text: electrons are no unit of the FITS standard.
        if unit is not None:
            hdu.columns[column].unit = unit.to_string()
    for number, column in enumerate(table.colnames, start=1):
        if description := table[column].info.description:
            hdu.header[f"TCOMM{number}"] = description
        if column in ucds:
            hdu.header[f"TUCD{number}"] = ucds[column]
    return hdu


def _as_votable(table):
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import Info

    votable = from_table(_plain(table))
    sources = votable.get_first_table()
    for field in sources.fields:
        field.ucd = UCDS.get(field.name)
    for keyword, (value, comment) in _cards(table).items():
        info = Info(name=keyword, value=str(value))
        info.content = comment
        sources.infos.append(info)
    if SELECTION in table.meta:
        # A second table would have to be named by all who read the first.
        text = json.dumps(_lists_of(table.meta[SELECTION])).replace("NaN", "null")
        sources.infos.append(Info(name=SELECTION, value=text))
    return votable
