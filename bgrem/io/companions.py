"""Maps that observatories deliver with an image, masks and weights among them, found by their conventions.

HST and JWST: SCI with DQ (or WHT, of drizzled images) of the same EXTVER in one file. ERR contains the
photon noise of the sources, so it is used only if the user names it. HSC and LSST: image, mask and variance
in consecutive HDUs, the planes of the mask named by MP_ cards. Community pipeline of DECam: the files
..._ooi_..., ..._ood_... (codes) and ..._oow_... (inverse variance). ccdproc and astropy's CCDData: MASK.
Their UNCERT is not used automatically, for the reason of ERR.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from astropy.io import fits

from bgrem.arrays.rows import worked_out
from bgrem.arrays.tiling import row_strips
from bgrem.io.maps import GivenMaps
from bgrem.io.reading import FitsError, FitsImage, image_hdus, read_image, sibling

__all__ = ["map_hdus", "with_companions"]

# Bits of DQ that are bad and those that are saturated, by INSTRUME and DETECTOR, INSTRUME or TELESCOP. ACS:
# https://www.stsci.edu/hst/instrumentation/acs/data-analysis/dq-flag-definitions; WFC3: its data handbook,
# whose bit 2048 is A-to-D saturation in UVIS, but a correction for light in the zero read in IR, and harmless;
# WFPC2: https://www.stsci.edu/hst/wfpc2/analysis/WFPC2_flags.html, where 8 is saturation, 1024 a repaired warm
# pixel and 2048 a masked chip; NICMOS and STIS: the tables of flags in chapter 2 of their data handbooks. Warm
# pixels (64), unstable ones (32) and small blemishes are left to the model. JWST: the flags of its pipeline, of
# which DO_NOT_USE is enough.
DQ_BITS = {
    "JWST": (1, 2),
    "WFPC2": (1 | 2 | 4 | 16 | 32 | 512 | 2048 | 4096, 8),
    "WFC3 IR": (1 | 2 | 4 | 8 | 16 | 128 | 4096 | 8192, 256),
    "NICMOS": (1 | 16 | 32 | 128 | 512, 64),
    "STIS": (1 | 2 | 4 | 8 | 16 | 512 | 8192, 256),
    "HST": (1 | 2 | 4 | 8 | 16 | 128 | 4096 | 8192, 256 | 2048),
}
# Mask planes of HSC and LSST that are bad; others mark detections or interpolation. In a coadd, CR marks a
# cosmic ray that was rejected in one of the exposures; the pixel is good. Planes that only coadds have identify
# a coadd: https://dp1.lsst.io/products/images
BAD_PLANES, COSMIC_RAY_PLANE, SATURATED_PLANE = ("BAD", "NO_DATA"), "CR", "SAT"
MOST_PLANES = 63  # the flags are read as 64-bit integers
COADD_PLANES = ("CLIPPED", "INEXACT_PSF", "REJECTED", "SENSOR_EDGE")
# https://community.lsst.org/t/decam-data-quality-masks/133, and the NOAO Data Handbook: codes of the community
# pipeline from version 3.5 on, and bits of earlier versions. The codes of saturation and of differences to a
# stack are not bad.
CODE_SATURATED, CODE_DIFFERENCE, LAST_CODE = 3, 7, 8
OLD_BAD, OLD_SATURATED = 1 | 16 | 64 | 128, 2
FIRST_CODES = (3, 5)
# Words in an EXTNAME that only maps have: flags, noise, weights and models of the sky, of DES, JWST, HST,
# Euclid, Gemini, ESO, LSST, TESS, PS1, SWarp, ccdproc and photutils.
MAP_WORDS = {
    "DQ", "QUALITY", "DATAQUALITY", "FLAG", "FLAGS", "FLG", "BPM", "BADPIX", "BADPIXEL",
    "BADPIXELS", "BITMAP", "MASKBITS", "MASKS", "BAD", "BIT", "SEGM", "ERR", "ERROR", "ERRORS",
    "RMS", "STDDEV", "STDEV", "SIGMA", "UNC", "UNCERT", "UNCERTAINTY", "UNCERTAINTIES", "NOISE",
    "VAR", "VARIANCE", "VARIANCES", "IVAR", "INVVAR", "INVVARIANCE", "IVM", "WHT", "WGT",
    "WEIGHT", "WEIGHTS", "CONF", "CONFIDENCE", "CTX", "CONTEXT", "COVERAGE", "NEXP", "NIMG",
    "NIMAGE", "NIMAGES", "NSAMP", "NCOMBINE", "EXPWT", "DEVIATION", "BKG", "BKGD", "BKGRMS",
    "BACKGROUND", "PSFIMAGE", "SIGNIF", "SNR", "WCSDVARR", "D2IMARR", "NPOLARR", "SEGMENTATION",
}  # fmt: skip
# Words that are maps beside a picture of another name; files of exposures alone use them, too.
WEAK_MAP_WORDS = {
    "QUAL", "SEG", "STD", "STAT", "SIG", "WT", "CON", "COV", "NUM", "SAMP", "EXP", "EXPOSURE",
    "EXPTIME", "TIME", "TEXP", "COUNT", "COUNTS", "NCOUNTS", "AREA", "PAM", "SKY", "MODEL",
    "BACK", "BGD", "PSF", "KERNEL", "RESIDUAL", "RESIDUALS", "APERTURE", "DEPTH", "CHI", "CHISQ",
    "RESP",
}  # fmt: skip
GENERIC_WORDS = {"IMAGE", "DATA", "ARRAY", "MAP", "PLANE", "EXT", "FRAME"}
SCIENCE_WORDS, SUBTRACTED_WORDS = {"SCI", "SCIENCE"}, {"SUB", "SUBTRACTED", "CORRECTED", "REDUCED"}
BY_NAME = "by name"
# Other cards with the kind of an HDU: of ESO, and of LSST and Pan-STARRS.
KIND_CARDS = ("HDUCLAS2", "EXTTYPE")
# Units of times, counts of exposures and bits.
MAP_UNITS = {"S", "SEC", "SECONDS", "SAMPLES", "UNITLESS", "BIT", "BITS", "BITMASK"}
FEW_VALUES = 8  # of a map of counts without a name; a picture has more
FILLED = 0.5  # part of a weight map that must be above 0; below it the map is taken as not filled


@dataclass(frozen=True)
class _Found:
    """The companions of one image: their pixels, and their names for messages."""

    mask: np.ndarray | None = None
    saturated: np.ndarray | None = None
    weight: np.ndarray | None = None
    weight_type: str = "inverse"
    mask_name: str = ""
    weight_name: str = ""


def with_companions(image: FitsImage, given: GivenMaps) -> GivenMaps:
    """Add the companions of an image, with a note for each, to the maps of the user, which precede."""
    found = _in_the_file(image) or _lsst(image) or _decam(image) or _ccdproc(image)
    if found is None:
        return given
    notes = list(given.notes)
    if given.mask is None and found.mask is not None:
        given = replace(given, mask=found.mask, saturate=_joined(image, given, found))
        notes.append(f"mask from {found.mask_name}")
    if given.weight is None and found.weight is not None:
        if _part_above_0(found.weight) > FILLED:
            given = replace(given, weight=found.weight, weight_type=found.weight_type)
            notes.append(f"{found.weight_type} weight from {found.weight_name}")
        else:
            notes.append(f"{found.weight_name} not used, it is mostly not above 0")
    return replace(given, notes=tuple(notes))


def _joined(image: FitsImage, given: GivenMaps, found: _Found) -> float | np.ndarray | None:
    """The saturation level, or the map of saturated pixels, or both in one map."""
    if found.saturated is None or given.saturate is None:
        return given.saturate if found.saturated is None else found.saturated
    saturated = found.saturated
    lines, data = (array.reshape(-1, array.shape[-1]) for array in (saturated, image.data))
    for rows in row_strips(lines.shape):
        lines[rows] = lines[rows] | (data[rows] >= given.saturate)
    return saturated


def _part_above_0(values: np.ndarray) -> float:
    lines = values.reshape(-1, values.shape[-1])
    count = sum(np.count_nonzero(lines[rows] > 0) for rows in row_strips(lines.shape))
    return count / values.size


def _flagged(flags: FitsImage, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A condition on the bits of an image of flags; NaN counts as all bits set."""

    def condition(part: np.ndarray) -> np.ndarray:
        return function(np.where(np.isfinite(part), part, -1).astype(np.int64))

    return worked_out(flags.data, condition, bool, flags.store)


# --- HST, JWST


def _names_beside(headers: Mapping[int, fits.Header], hdu: int) -> dict[str, int]:
    """ERR, DQ and WHT with the EXTVER and the shape of the SCI at an index."""
    if _name(headers[hdu]) != "SCI":
        return {}
    own = headers[hdu]
    return {
        _name(header): index
        for index, header in headers.items()
        if _name(header) in ("ERR", "DQ", "WHT")
        and header.get("EXTVER", 1) == own.get("EXTVER", 1)
        and _shape(header) == _shape(own)
    }


def _in_the_file(image: FitsImage) -> _Found | None:
    beside = _names_beside(image_hdus(image), image.hdu)
    if not beside:
        return None
    found = _Found()
    if "DQ" in beside:
        flags = sibling(image, beside["DQ"])
        bad, saturated = _dq_bits(image)
        found = replace(
            found,
            mask=_flagged(flags, lambda bits: bits & bad != 0),
            saturated=_flagged(flags, lambda bits: bits & saturated != 0),
            mask_name=flags.label,
        )
    if "WHT" in beside:
        weight = sibling(image, beside["WHT"])
        found = replace(found, weight=weight.data, weight_name=weight.label)
    return found


def _dq_bits(image: FitsImage) -> tuple[int, int]:
    instrument, detector, telescope = (
        _card(image, key).upper() for key in ("INSTRUME", "DETECTOR", "TELESCOP")
    )
    names = (f"{instrument} {detector}", instrument, telescope, "HST")
    return next(DQ_BITS[name] for name in names if name in DQ_BITS)


def _card(image: FitsImage, key: str) -> str:
    """Text of a card of the image or, if it has none, of the primary HDU."""
    texts = (str(header.get(key, "")).strip() for header in (image.header, image.primary))
    return next(filter(None, texts), "")


def _name(header: fits.Header) -> str:
    return str(header.get("EXTNAME", "")).strip().upper()


def _shape(header: fits.Header) -> tuple:
    z = "Z" if header.get("ZIMAGE") is True else ""
    return tuple(header[f"{z}NAXIS{i + 1}"] for i in range(header[f"{z}NAXIS"]))


# --- HSC, LSST


def _planes_of(header: fits.Header) -> dict[str, int]:
    """The planes named by the MP_ cards of a mask, and the numbers of their bits."""
    planes = {}
    for keyword in header:
        name = keyword.removeprefix("HIERARCH ")
        bit = header.get(keyword) if name.startswith("MP_") else None
        if isinstance(bit, int) and 0 <= bit < MOST_PLANES:
            planes[name.removeprefix("MP_")] = bit
    return planes


def _bits_of(planes: Mapping[str, int], names: tuple[str, ...]) -> int:
    return sum(1 << planes[name] for name in names if name in planes)


def _any_set(flags: FitsImage, bits: int) -> bool:
    lines = _flagged(flags, lambda values: values & bits != 0)
    lines = lines.reshape(-1, lines.shape[-1])
    return any(lines[rows].any() for rows in row_strips(lines.shape))


def _lsst(image: FitsImage) -> _Found | None:
    headers = image_hdus(image)
    mask, variance = headers.get(image.hdu + 1), headers.get(image.hdu + 2)
    planes = {} if mask is None else _planes_of(mask)
    if not planes or _shape(mask) != _shape(headers[image.hdu]):
        return None
    flags = sibling(image, image.hdu + 1)
    bad = _bits_of(planes, BAD_PLANES)
    coadd = _bits_of(planes, COADD_PLANES)
    if not (coadd and _any_set(flags, coadd)):
        bad |= _bits_of(planes, (COSMIC_RAY_PLANE,))
    saturated = _bits_of(planes, (SATURATED_PLANE,))
    found = _Found(
        mask=_flagged(flags, lambda bits: bits & bad != 0),
        saturated=_flagged(flags, lambda bits: bits & saturated != 0),
        mask_name=flags.label,
    )
    if variance is None or _shape(variance) != _shape(mask):
        return found
    noise = sibling(image, image.hdu + 2)
    return replace(found, weight=noise.data, weight_type="variance", weight_name=noise.label)


# --- ccdproc, CCDData


def _ccdproc(image: FitsImage) -> _Found | None:
    """The MASK of an image without a name; bgrem's own planes do not count."""
    headers = image_hdus(image)
    own = headers[image.hdu]
    if _name(own) not in ("", "PRIMARY", "COMPRESSED_IMAGE") or "BGR_HDU" in own:
        return None
    for index, header in headers.items():
        if (
            _name(header) == "MASK"
            and "BGR_HDU" not in header
            and _bitpix(header) == 8
            and _shape(header) == _shape(own)
        ):
            flags = sibling(image, index)
            return _Found(mask=_flagged(flags, lambda bits: bits != 0), mask_name=flags.label)
    return None


# --- DECam


def _decam(image: FitsImage) -> _Found | None:
    codes, weight = _namesake(image, "ood"), _namesake(image, "oow")
    if codes is None and weight is None:
        return None
    found = _Found()
    if codes is not None:
        bad, saturated = (_flagged(codes, condition) for condition in _conditions(codes))
        found = replace(found, mask=bad, saturated=saturated, mask_name=codes.label)
    if weight is not None:
        found = replace(found, weight=weight.data, weight_name=weight.label)
    return found


def _conditions(codes: FitsImage) -> tuple[Callable, Callable]:
    """The conditions for bad and for saturated pixels."""
    if _has_bits(codes):
        return lambda bits: bits & OLD_BAD != 0, lambda bits: bits & OLD_SATURATED != 0
    harmless = (0, CODE_SATURATED, CODE_DIFFERENCE)
    return lambda code: ~np.isin(code, harmless), lambda code: code == CODE_SATURATED


def _has_bits(codes: FitsImage) -> bool:
    """Whether the values are bits: by the version of the pipeline or, if unknown, their range."""
    version = re.search(r"(\d+)\.(\d+)", _card(codes, "PLVER"))
    if version:
        return (int(version[1]), int(version[2])) < FIRST_CODES
    lines = codes.data.reshape(-1, codes.data.shape[-1])
    return any((lines[rows] > LAST_CODE).any() for rows in row_strips(lines.shape))


def _namesake(image: FitsImage, kind: str) -> FitsImage | None:
    """The same HDU of the file whose name differs only in its kind; None without such a file."""
    name = re.sub(r"(?<=_)ooi(?=_)", kind, image.path.name)
    path = image.path.with_name(name)
    if name == image.path.name or not path.is_file():
        return None
    try:
        found = read_image(path, image.hdu, store=image.store)
    except FitsError:
        return None
    return found if found.data.shape == image.data.shape else None


# --- maps that are no pictures


def map_hdus(image: FitsImage) -> dict[int, str]:
    """The images of the file of ``image`` that are maps and no pictures: index -> how each is known.

    They are known by a card of bgrem, by their names, or by bits and units beside a picture of the same
    shape. Chips of a mosaic are pictures, whether they have names or not.
    """
    headers = image_hdus(image)
    found = {i: reason for i, header in headers.items() if (reason := _sure_reason(header))}
    for i, header in headers.items():
        if _planes_of(header) and i + 1 in headers and _shape(headers[i + 1]) == _shape(header):
            found.setdefault(i + 1, "as variance after a mask")
    weak = {i for i, header in headers.items() if _words(header) & WEAK_MAP_WORDS}
    pictures = [header for i, header in headers.items() if i not in found and i not in weak]
    if pictures:
        found |= dict.fromkeys(weak - found.keys(), BY_NAME)
    for i in headers.keys() - found.keys() - weak:
        beside = [h for h in pictures if h is not headers[i] and _shape(h) == _shape(headers[i])]
        other_name = _words(headers[i]) and any(_is_science(h) for h in beside)
        by_unit = any(_has_unit_of_map(headers[i], h) for h in beside)
        coarser = any(_is_coarser(headers[i], h) for h in beside) and _is_like_flags(image, i)
        if other_name or by_unit or coarser:
            found[i] = "by name, values or unit beside a picture of the same shape"
    return dict(sorted(found.items()))


def _sure_reason(header: fits.Header) -> str:
    """How an HDU alone shows that it is a map; empty if it does not."""
    if "BGR_HDU" in header:
        return "as planes of bgrem"
    if _planes_of(header) or header.get("ZCMPTYPE") == "PLIO_1":
        return "as masks"
    words = _words(header)
    masks = any(word.endswith(("MASK", "MSK")) for word in words)
    return BY_NAME if masks or words & MAP_WORDS else ""


def _words(header: fits.Header) -> set[str]:
    """The first and the last word of the names of an HDU, without numbers; empty for a picture."""
    found = set()
    for text in (_name(header), *(str(header.get(key, "")).upper() for key in KIND_CARDS)):
        words = [
            re.sub(r"(?<=..)(MAP|IMAGE|IMG)$|\d+$", "", w) for w in re.split(r"[^A-Z0-9]+", text)
        ]
        words = [word for word in words if word and word not in GENERIC_WORDS]
        science = words and words[-1] in SCIENCE_WORDS and words[0] not in MAP_WORDS
        if words and not science and not SUBTRACTED_WORDS.intersection(words):
            found |= {words[0], words[-1]}
    return found


def _is_science(header: fits.Header) -> bool:
    return _name(header).rstrip("0123456789").endswith(tuple(SCIENCE_WORDS))


def _is_coarser(header: fits.Header, picture: fits.Header) -> bool:
    """Whether an HDU holds integers beside floats, or bytes beside longer integers."""
    bits, others = _bitpix(header), _bitpix(picture)
    return bits > 0 > others or bits == 8 != others


def _is_like_flags(image: FitsImage, index: int) -> bool:
    """Whether more than half of the pixels have one value, or all have few, but the image is not constant."""
    data = sibling(image, index).data
    lines = data.reshape(-1, data.shape[-1])
    counts: Counter[float] = Counter()
    for rows in row_strips(lines.shape):
        values, numbers = np.unique(lines[rows], return_counts=True)
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    usual = max(counts.values()) > data.size / 2
    return len(counts) > 1 and (usual or len(counts) <= FEW_VALUES)


def _has_unit_of_map(header: fits.Header, picture: fits.Header) -> bool:
    """Whether the unit is that of a time or a count, or the square of the unit of the picture."""
    unit, other = (str(h.get("BUNIT", "")).strip().upper() for h in (header, picture))
    plain, squared = (re.sub(r"[\s()^*-]", "", text) for text in (other, unit))
    return bool(other) and unit != other and (unit in MAP_UNITS or squared == plain + "2")


def _bitpix(header: fits.Header) -> int:
    """Bits of a pixel of an image, which is tile-compressed or not; negative for floats, 0 if unknown."""
    bits = header.get("ZBITPIX" if header.get("ZIMAGE") is True else "BITPIX")
    return bits if isinstance(bits, int) else 0
