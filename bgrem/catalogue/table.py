"""The catalogue as an astropy table."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from astropy import units as u
from astropy.table import Column, QTable

from bgrem import __version__
from bgrem.catalogue.source_measurement import APERTURES
from bgrem.io.header_facts import ZeroPoint, sky_places

__all__ = ["CATALOGUE_COLUMNS", "SELECTION", "UCDS", "catalogue_table", "selection_table"]

#: Key of ``meta`` and name of the extension that hold the completeness.
SELECTION = "SELECTION"
FLUX, MAG = "flux", "mag"  # columns whose unit is that of the image, and magnitudes
PIXEL, DEGREE = u.pix, u.deg


@dataclass(frozen=True)
class _Column:
    """A column of the catalogue: where its values are from, its unit, UCD and meaning."""

    values: str
    unit: object
    ucd: str
    description: str


#: Columns by name, in order.
CATALOGUE_COLUMNS = {
    "NUMBER": _Column("number", None, "meta.id;meta.main", "Running number"),
    "X_IMAGE": _Column("x_fits", PIXEL, "pos.cartesian.x;instr.det", "x, the first pixel is 1 (FITS)"),
    "Y_IMAGE": _Column("y_fits", PIXEL, "pos.cartesian.y;instr.det", "y, the first pixel is 1 (FITS)"),
    "x": _Column("x", PIXEL, "", "x, the first pixel is 0 (Python)"),
    "y": _Column("y", PIXEL, "", "y, the first pixel is 0 (Python)"),
    "ERRX_IMAGE": _Column("x_error", PIXEL, "stat.error;pos.cartesian.x", "Standard deviation of x"),
    "ERRY_IMAGE": _Column("y_error", PIXEL, "stat.error;pos.cartesian.y", "Standard deviation of y"),
    "ALPHA_J2000": _Column("alpha", DEGREE, "pos.eq.ra;meta.main", "Right ascension"),
    "DELTA_J2000": _Column("delta", DEGREE, "pos.eq.dec;meta.main", "Declination"),
    "FLUX_APER": _Column("aperture", FLUX, "phot.flux", "Light of a point source from circles of "
                         f"{', '.join(map(str, APERTURES))} FWHM radius"),
    "FLUXERR_APER": _Column("aperture_error", FLUX, "stat.error;phot.flux", "Standard deviation of FLUX_APER"),
    "FLUX_AUTO": _Column("auto", FLUX, "phot.flux", "Points: circle of 1.5 FWHM radius, scaled to all light, without "
                         "neighbours; others: ellipse of 2.5 Kron radii"),
    "FLUXERR_AUTO": _Column("auto_error", FLUX, "stat.error;phot.flux", "Standard deviation of FLUX_AUTO"),
    "FLUX_PSF": _Column("psf", FLUX, "phot.flux", "Fit of the PSF, together with the neighbours"),
    "FLUXERR_PSF": _Column("psf_error", FLUX, "stat.error;phot.flux", "Standard deviation of FLUX_PSF"),
    "MAG_APER": _Column("aperture", MAG, "phot.mag", "Magnitude of FLUX_APER"),
    "MAGERR_APER": _Column("aperture_error", MAG, "stat.error;phot.mag", "Standard deviation of MAG_APER"),
    "MAG_AUTO": _Column("auto", MAG, "phot.mag", "Magnitude of FLUX_AUTO"),
    "MAGERR_AUTO": _Column("auto_error", MAG, "stat.error;phot.mag", "Standard deviation of MAG_AUTO"),
    "MAG_PSF": _Column("psf", MAG, "phot.mag", "Magnitude of FLUX_PSF"),
    "MAGERR_PSF": _Column("psf_error", MAG, "stat.error;phot.mag", "Standard deviation of MAG_PSF"),
    "SNR": _Column("snr", None, "stat.snr", "FLUX_PSF over its error; of extended sources FLUX_AUTO"),
    "SIGNIF": _Column("signif", None, "stat.likelihood", "Significance of the detection (SIGNIF)"),
    "P_REAL": _Column("p_real", None, "stat.probability", "Probability that the source is real, measured on the frame"),
    "KRON_RADIUS": _Column("kron_radius", None, "", "Ellipse of FLUX_AUTO in units of A_IMAGE and B_IMAGE"),
    "A_IMAGE": _Column("a", PIXEL, "phys.angSize.smajAxis;pos.cartesian;instr.det", "Deviation along the long axis"),
    "B_IMAGE": _Column("b", PIXEL, "phys.angSize.sminAxis;pos.cartesian;instr.det", "Deviation along the short axis"),
    "THETA_IMAGE": _Column("theta", DEGREE, "pos.posAng;pos.cartesian;instr.det", "Angle of the long axis from x towards y"),
    "FLUX_RADIUS": _Column("half_light_radius", PIXEL, "phys.angSize;pos.cartesian;instr.det", "Radius with half of FLUX_AUTO"),
    "FWHM_IMAGE": _Column("fwhm", PIXEL, "phys.angSize;pos.cartesian;instr.det", "FWHM of the PSF times FLUX_RADIUS over that of a star"),
    "SPREAD_MODEL": _Column("spread", None, "src.morph.type", "0 for points, more for extended sources, less for what is sharper"),
    "SPREADERR_MODEL": _Column("spread_error", None, "stat.error;src.morph.type", "Standard deviation of SPREAD_MODEL"),
    "CLASS_STAR": _Column("class_star", None, "src.class.starGalaxy", "1 for points, 0 for extended sources, by SPREAD_MODEL"),
    "FLAGS": _Column("flags", None, "meta.code.qual", "Sum of bits, see the documentation"),
}  # fmt: skip
#: Columns of the extension SELECTION: keys of `FrameCalibration.completeness` or `flux_bias`, units, meanings.
SELECTION_COLUMNS = {
    "KIND": ("kind", None, "points, galaxies (of 0.3 to 1 FWHM), or crowded: within 2 FWHM of a source"),
    "SNR_LOW": ("low", None, "Least S/N of the bin, of a matched filter"),
    "SNR_HIGH": ("high", None, "Largest S/N of the bin"),
    "SNR": ("snr", None, "Mean S/N"),
    "FLUX": ("flux", FLUX, "Mean flux"),
    "MAG": ("flux", MAG, "Magnitude of FLUX"),
    "N_PLANTED": ("planted", None, "Planted sources"),
    "N_FOUND": ("found", None, "Planted sources in the catalogue"),
    "COMPLETENESS": ("completeness", None, "N_FOUND over N_PLANTED"),
    "COMPLETENESS_ERR": ("error", None, "Its standard deviation"),
    "COMPLETENESS_FIT": ("fitted", None, "A smooth curve through COMPLETENESS"),
    "RATIO_PSF": ("psf", None, "Median of FLUX_PSF over the true flux"),
    "RATIO_AUTO": ("auto", None, "Median of FLUX_AUTO over the true flux"),
}  # fmt: skip
UCDS = {name: column.ucd for name, column in CATALOGUE_COLUMNS.items() if column.ucd} | {
    "PLANE": "meta.id;meta.dataset", "FILE": "meta.id;meta.file",
}  # fmt: skip


def catalogue_table(
    columns, measuring, *, unit="", wcs=None, zero_point: ZeroPoint | None = None, cards=()
):
    """The catalogue of a frame.

    Parameters
    ----------
    columns : dict of str to (n,) ndarray
    measuring : `bgrem.catalogue.source_measurement.Measuring`
        Both as `bgrem.catalogue.source_measurement.measure_sources` gives them.
    unit : str
        BUNIT of the image.
    wcs : `~astropy.wcs.WCS`, optional
        Gives ALPHA_J2000 and DELTA_J2000.
    zero_point : ZeroPoint, optional
        Gives the magnitudes.
    cards : sequence of (keyword, value, comment)
        Further entries of ``meta``.

    Returns
    -------
    `~astropy.table.QTable`
        ``meta`` holds the threshold, the PSF's FWHM, gain and zero point.
    """
    columns = columns | _derived(columns)
    places = sky_places(wcs, columns["x"], columns["y"])
    if places:
        columns |= {"alpha": places.alpha, "delta": places.delta}
    flux_unit = _unit_of(unit)
    table = QTable()
    for name, column in CATALOGUE_COLUMNS.items():
        if column.values not in columns or (column.unit is MAG and not zero_point):
            continue
        values = columns[column.values]
        if column.unit is MAG:
            values = _magnitudes(columns, column.values, zero_point)
        of = {FLUX: flux_unit, MAG: u.mag}.get(column.unit, column.unit)
        made = Column(values, name=name, unit=of, description=column.description)
        table[name] = made
    table.meta = _meta(measuring, zero_point, places, cards)
    return table


def _derived(columns):
    """Columns that follow from others."""
    count = len(columns["x"])
    circles = range(1, len(APERTURES) + 1)
    resolved = columns["resolved"]
    flux, error = (
        np.where(resolved, columns[f"auto{e}"], columns[f"psf{e}"]) for e in ("", "_error")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = flux / error
    return {
        "number": np.arange(1, count + 1, dtype=np.int32),
        "x_fits": columns["x"] + 1,
        "y_fits": columns["y"] + 1,
        "aperture": np.column_stack([columns[f"aperture_{k}"] for k in circles]),
        "aperture_error": np.column_stack([columns[f"aperture_{k}_error"] for k in circles]),
        "snr": snr,
    }  # fmt: skip


def _magnitudes(columns, name, zero_point):
    """Magnitudes, or their errors, of fluxes; NaN where a flux is not positive."""
    kind = name.removesuffix("_error")
    flux = columns[kind]
    with np.errstate(divide="ignore", invalid="ignore"):
        if name != kind:
            return np.where(flux > 0, 2.5 / np.log(10) * columns[name] / flux, np.nan)
        return np.where(flux > 0, zero_point.magnitude - 2.5 * np.log10(flux), np.nan)


def _unit_of(text):
    """The unit of the image; None where it is not known."""
    try:
        return u.Unit(str(text).strip()) if str(text).strip() else None
    except ValueError:
        return {"adu": u.adu, "counts": u.ct, "electrons": u.electron}.get(
            str(text).strip().lower()
        )


def _meta(measuring, zero_point, places, cards):
    psf = measuring.psf
    meta = {
        "CREATOR": (f"bgrem {__version__}", "program"),
        "DATE": (datetime.now(UTC).isoformat(timespec="seconds").removesuffix("+00:00"), "UTC of the catalogue"),
        "BGR_THRS": (measuring.threshold, "least SIGNIF of the list"),
        "BGR_PSF": (psf.fwhm, "[pix] FWHM of the fitted PSF"),
        "BGR_PSFS": ("stars" if psf.is_measured else "Gaussian", "what the PSF is from"),
        "BGR_ZERO": (measuring.factors.level, "[sky rms/pix] of empty places, removed"),
        "BGR_GAIN": (measuring.gain, "[electron] per data unit"),
    }  # fmt: skip
    if zero_point:
        meta["BGR_ZP"] = (zero_point.magnitude, "[mag] of one data unit")
        meta["BGR_ZPS"] = (zero_point.source, "where BGR_ZP is from")
    if places:
        meta["RADESYS"] = (places.system, "of ALPHA_J2000 and DELTA_J2000")
    meta |= {keyword: (value, comment) for keyword, value, comment in cards}
    return {keyword: pair for keyword, pair in meta.items() if pair[0] is not None}


def selection_table(frame, threshold, *, unit="", zero_point: ZeroPoint | None = None):
    """What part of sources of each brightness the catalogue holds, as planted sources show.

    Parameters
    ----------
    frame : `~bgrem.catalogue.planted.FrameCalibration`
    threshold : float
        Least SIGNIF of the catalogue.
    unit, zero_point
        As for `catalogue_table`.

    Returns
    -------
    `~astropy.table.QTable`
        One row for points, small galaxies and sources beside others (KIND), and bins of S/N.
    """
    rows, biases = frame.completeness(threshold), frame.flux_bias(threshold)
    ratio_of = {(row["kind"], row["low"]): row for row in biases}
    flux_unit = _unit_of(unit)
    table = QTable()
    for name, (key, of, description) in SELECTION_COLUMNS.items():
        if of is MAG and not zero_point:
            continue
        values = [
            row.get(key, ratio_of.get((row["kind"], row["low"]), {}).get(key, np.nan))
            for row in rows
        ]
        if of is MAG:
            values = zero_point.magnitude - 2.5 * np.log10(values)
        of = {FLUX: flux_unit, MAG: u.mag}.get(of, of)
        table[name] = Column(values, name=name, unit=of, description=description)
    return table
