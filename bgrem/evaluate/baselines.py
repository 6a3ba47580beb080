"""Other ways to detect that astronomers use, each by its own documentation, at every threshold.

- `detect_sextractor_tuned`, `detect_source_extractor`: SExtractor as an expert sets it up through SEP,
  and the program itself with its defaults;
- `detect_photutils`: Background2D, a convolution with the PSF, segments;
- `detect_wavelets`: SExtractor on an image that the starlet transform has cleaned;
- `detect_noisechisel`: NoiseChisel and Segment of GNU Astronomy Utilities, at several quantiles.

All give a table of x, y and score that goes below any sensible threshold.
"""

import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.signal import fftconvolve

from bgrem.arrays.statistics import SIGMA_PER_MAD
from bgrem.detection.peaks import detection_table
from bgrem.detection.psf import noise_pixels, psf_fwhm
from bgrem.detection.sextractor import (
    DEFAULT_AREA,
    DEFAULT_CONV,
    Subtracted,
    clean_input,
    detect_sextractor,
    extract,
    scan_thresholds,
    subtract_sky,
    threshold_ladder,
)

__all__ = [
    "NOISECHISEL_PROGRAMS", "QUANTILES", "denoise_wavelets", "detect_noisechisel",
    "detect_photutils", "detect_sextractor_tuned", "detect_source_extractor", "detect_wavelets",
    "source_extractor_program", "starlet",
]  # fmt: skip

#: Box of photutils' Background2D, as in its documentation.
PHOTUTILS_BOX = 50
#: Scales of the starlet transform: the last is 2**5 pixels wide.
STARLET_SCALES = 5
#: Wavelet coefficients that are kept, in units of the noise of their scale.
KEPT_SIGMA = 2.5
#: The cubic B-spline of the starlet transform (Starck, Murtagh & Fadili 2010, section 3.5).
STARLET_SPLINE = np.array([1, 4, 6, 4, 1]) / 16.0
LEAST_NOISE = np.finfo(np.float32).tiny
#: False-alarm quantiles (--snquant) of NoiseChisel and Segment; 0.99 is the default of both.
QUANTILES = (0.999, 0.99, 0.9, 0.6)
#: Side of NoiseChisel's tiles, pixels: its default, and the least; it wants some 15 across a frame.
TILES_ACROSS, LEAST_TILE, DEFAULT_TILE = 16, 10, 30
NOISECHISEL_PROGRAMS = ("astnoisechisel", "astsegment")


def detect_sextractor_tuned(data, psf, *, mask=None, enough=None):
    """SExtractor as an expert sets it up: PSF as filter, noise map, at every threshold.

    Parameters
    ----------
    data : (ny, nx) array
    psf : (n, n) array
    mask : (ny, nx) bool, optional
        Bad pixels.
    enough : callable, optional
        See `bgrem.detection.sextractor.scan_thresholds`.

    Returns
    -------
    structured array
        x, y, score; see `join_runs`.
    """
    half = psf.shape[0] // 2
    reach = min(half, int(np.ceil(1.3 * psf_fwhm(psf))))
    kernel = psf[half - reach : half + reach + 1, half - reach : half + reach + 1]
    # The least area is a quarter of the PSF's: a filtered star cannot be narrower.
    area = int(np.clip(noise_pixels(psf) / 8.0, 1, DEFAULT_AREA))
    lowest = 2.2 / noise_pixels(kernel) ** 0.5
    return detect_sextractor(
        data, mask=mask, kernel=kernel, area=area, local=True, lowest=lowest, enough=enough
    )


def detect_source_extractor(data, *, mask=None, lowest=0.7, program=None):
    """The program itself with its default.sex, at the thresholds of `threshold_ladder`, joined.

    Bad pixels take the value of the sky, which is the best that can be done for the program.

    Parameters
    ----------
    data : (ny, nx) array
    mask : (ny, nx) bool, optional
        Bad pixels.
    lowest : float
        Lowest DETECT_THRESH.
    program : str, optional
        Its path; by default it is looked for.

    Returns
    -------
    structured array
        x, y, score; see `join_runs`.

    Raises
    ------
    FileNotFoundError
        If the program is not installed.
    subprocess.CalledProcessError
        If it fails.
    """
    program = program or source_extractor_program()
    if program is None:
        raise FileNotFoundError("source-extractor is not installed")
    from astropy.io import fits

    image, bad = clean_input(data, mask)
    image = np.where(bad, np.median(image[~bad]), image)
    with tempfile.TemporaryDirectory() as folder:
        fits.writeto(Path(folder, "image.fits"), image)
        kernel = "\n".join(" ".join(f"{value:g}" for value in row) for row in DEFAULT_CONV)
        Path(folder, "default.conv").write_text(f"CONV NORM\n{kernel}\n")
        Path(folder, "columns").write_text("X_IMAGE\nY_IMAGE\nFLUX_MAX\n")
        return scan_thresholds(
            lambda threshold: _run_program(program, folder, threshold),
            threshold_ladder(lowest)[::2],
        )


def _run_program(program, folder, threshold):
    """One run of the program on the folder's image."""
    command = [program, "image.fits", "-c", "/dev/null", "-PARAMETERS_NAME", "columns"]
    settings = {
        "DETECT_THRESH": f"{threshold:.4f}", "ANALYSIS_THRESH": f"{threshold:.4f}",
        "FILTER": "Y", "FILTER_NAME": "default.conv", "DETECT_MINAREA": str(DEFAULT_AREA),
        "CATALOG_NAME": "catalogue",
        "CATALOG_TYPE": "ASCII", "VERBOSE_TYPE": "QUIET", "STARNNW_NAME": "none",
        "MEMORY_PIXSTACK": "3000000", "MEMORY_OBJSTACK": "30000",
    }  # fmt: skip
    for name, value in settings.items():
        command += [f"-{name}", value]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    rows = np.array(Path(folder, "catalogue").read_text().split(), dtype=np.float64).reshape(-1, 3)
    # The program counts pixels from one.
    return detection_table(rows[:, 0] - 1, rows[:, 1] - 1, rows[:, 2])


def source_extractor_program():
    """Path of the installed program, under any of its names.

    Returns
    -------
    str or None
    """
    names = ("source-extractor", "sextractor", "sex")
    return next(filter(None, map(shutil.which, names)), None)


def detect_photutils(data, psf, *, mask=None, enough=None):
    """The recipe of photutils' documentation: segments of the image convolved with the PSF.

    Background2D with its median estimator and a 3-sigma clip, a convolution, detect_sources at
    thresholds in units of the background's rms; the place of a segment and its score within a run
    are those of its brightest pixel in the convolved image. The ladder of thresholds replaces
    deblend_sources, which needs minutes for each: what a high threshold separates stays apart.

    Parameters
    ----------
    data : (ny, nx) array
    psf : (n, n) array
        Unit sum.
    mask : (ny, nx) bool, optional
        Bad pixels.
    enough : callable, optional
        See `bgrem.detection.sextractor.scan_thresholds`.

    Returns
    -------
    structured array
        x, y, score.

    Raises
    ------
    ModuleNotFoundError
        If photutils is not installed.
    """
    from astropy.stats import SigmaClip
    from photutils.background import Background2D, MedianBackground
    from photutils.segmentation import detect_sources

    bad = _bad_pixels(data, mask)
    background = Background2D(
        np.where(bad, 0.0, data), PHOTUTILS_BOX, mask=bad, filter_size=3,
        sigma_clip=SigmaClip(3.0), bkg_estimator=MedianBackground(), exclude_percentile=50.0,
    )  # fmt: skip
    residual = np.where(bad, 0.0, data - background.background)
    convolved = fftconvolve(residual, psf, mode="same") / background.background_rms

    def run(threshold):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # photutils warns where it finds nothing
            segments = detect_sources(convolved, threshold, DEFAULT_AREA, mask=bad)
        return _labelled(0 if segments is None else segments.data, convolved)

    lowest = 1.8 / noise_pixels(psf) ** 0.5
    return scan_thresholds(run, threshold_ladder(lowest)[::2], enough=enough)


def detect_wavelets(data, *, mask=None, enough=None):
    """SExtractor on an image that wavelets have cleaned.

    Parameters
    ----------
    data : (ny, nx) array
    mask : (ny, nx) bool, optional
        Bad pixels.
    enough : callable, optional
        See `bgrem.detection.sextractor.scan_thresholds`.

    Returns
    -------
    structured array
        x, y, score.
    """
    sky, bad = subtract_sky(data, mask=mask), _bad_pixels(data, mask)
    cleaned = denoise_wavelets(np.where(bad, 0.0, sky.residual / sky.rms)).astype(np.float32)
    # The noise is gone: the threshold stays in units of what it was.
    cleaned = Subtracted(cleaned, np.ones_like(cleaned), 1.0)
    return scan_thresholds(
        lambda threshold: extract(cleaned, threshold, mask=bad),
        threshold_ladder(0.15)[::3],
        enough=enough,
    )


def denoise_wavelets(image):
    """What stands out of the noise in the starlet transform, without its smoothest scale.

    Coefficients below `KEPT_SIGMA` times the noise of their scale are set to zero, the others kept
    as they are (hard thresholding); the noise is the median of the absolute coefficients times 1.4826.

    Parameters
    ----------
    image : (ny, nx) array
        Sky-subtracted, noise of the same strength everywhere.

    Returns
    -------
    (ny, nx) float64
    """
    cleaned = np.zeros(np.shape(image))
    for scale in starlet(image)[:-1]:
        noise = SIGMA_PER_MAD * np.median(np.abs(scale))
        cleaned += np.where(np.abs(scale) > KEPT_SIGMA * noise, scale, 0.0)
    return cleaned


def starlet(image, scales=STARLET_SCALES):
    """The isotropic undecimated wavelet transform with holes (a trous).

    Parameters
    ----------
    image : (ny, nx) array
    scales : int

    Returns
    -------
    list of (ny, nx) float64
        The scales, finest first, and what is smoother than all of them: they add up to the image.
    """
    parts, smooth = [], np.asarray(image, dtype=np.float64)
    for scale in range(scales):
        holed = np.zeros(4 * 2**scale + 1)
        holed[:: 2**scale] = STARLET_SPLINE
        smoother = ndimage.convolve1d(ndimage.convolve1d(smooth, holed, axis=0), holed, axis=1)
        parts.append(smooth - smoother)
        smooth = smoother
    return [*parts, smooth]


def detect_noisechisel(data, *, mask=None, enough=None):
    """NoiseChisel, and Segment on what it detects, from strict to loose quantiles.

    Both decide by the false-alarm quantile of what they find in the undetected sky. Detected are the
    clumps, and objects without a clump; a detection's place and its score within a run are those of
    its brightest pixel in the lightly smoothed image. Bad pixels take the value of the sky: blank
    ones hide the stars around them.

    Parameters
    ----------
    data : (ny, nx) array
    mask : (ny, nx) bool, optional
        Bad pixels.
    enough : callable, optional
        See `bgrem.detection.sextractor.scan_thresholds`.

    Returns
    -------
    structured array
        x, y, score.

    Raises
    ------
    FileNotFoundError
        If a program is not installed.
    subprocess.CalledProcessError
        If it fails.
    """
    missing = [name for name in NOISECHISEL_PROGRAMS if shutil.which(name) is None]
    if missing:
        raise FileNotFoundError(f"{missing[0]} (gnuastro) is not installed")
    from astropy.io import fits

    with tempfile.TemporaryDirectory() as folder:
        bad = _bad_pixels(data, mask)
        image = np.where(bad, np.median(data[~bad]), data).astype(np.float32)
        fits.writeto(Path(folder, "image.fits"), image)
        tile = int(np.clip(min(image.shape) // TILES_ACROSS, LEAST_TILE, DEFAULT_TILE))
        return scan_thresholds(
            lambda quantile: _chisel(folder, quantile, tile), np.array(QUANTILES), enough=enough
        )


def _chisel(folder, quantile, tile):
    """One run of both programs on the folder's image."""
    from astropy.io import fits

    commands = (
        ("astnoisechisel", "image.fits", "--hdu=0", "--output=detected.fits"),
        ("astsegment", "detected.fits", "--output=segmented.fits"),
    )
    for command in commands:
        settings = f"--snquant={quantile:g}", f"--tilesize={tile},{tile}"
        subprocess.run(
            [*command, *settings, "--numthreads=1", "--quiet"],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
    with fits.open(Path(folder, "segmented.fits")) as planes:
        light, clumps, objects, noise = (
            np.nan_to_num(planes[name].data) for name in ("INPUT", "CLUMPS", "OBJECTS", "SKY_STD")
        )
    clumps, objects = (np.maximum(labels, 0).astype(np.int64) for labels in (clumps, objects))
    # Clumps are counted anew in each object. Segment makes none of what has too little structure.
    alone = ~np.isin(objects, np.unique(objects[clumps > 0]))
    labels = np.where((clumps > 0) | alone, objects * (1 + clumps.max()) + clumps, 0)
    snr = ndimage.convolve(light, DEFAULT_CONV / DEFAULT_CONV.sum()) / np.maximum(
        noise, LEAST_NOISE
    )
    return _labelled(labels, snr)


def _labelled(labels, image):
    """The brightest pixel of each labelled region and its value."""
    labels = np.broadcast_to(labels, image.shape)
    # Few pixels are labelled: to sort these alone costs little.
    y, x = np.nonzero(labels > 0)
    label, value = labels[y, x], image[y, x]
    order = np.lexsort((value, label))
    last = order[np.flatnonzero(np.diff(label[order], append=0))]
    return detection_table(x[last].astype(np.float64), y[last].astype(np.float64), value[last])


def _bad_pixels(data, mask):
    """Bad pixels, and what is not finite."""
    bad = ~np.isfinite(data)
    return bad if mask is None else bad | np.asarray(mask, dtype=bool)
