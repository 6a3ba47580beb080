"""One frozen detection recipe for each product that is compared.

Every recipe takes an image and gives a table of x, y, score (`bgrem.detection.peaks.DETECTION`) that goes far
below any sensible threshold: the score, not the recipe, decides how deep a comparison goes.

- `detect_peaks`: local maxima of any plane, such as the significance that bgrem makes for detection.
- `detect_on_sources`: local maxima of lightly smoothed sources over the noise, for a model without
  that plane.
- `detect_matched_filter`: the optimum of linear methods, told the PSF, after cosmic rays and bad
  pixels are taken out.
- `detect_sextractor_default`: SExtractor's default run through SEP; `detect_sextractor`,
  `detect_source_extractor`: the same at every threshold, through SEP and by the program itself.
"""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sep

from bgrem.arrays.filters import gaussian_filter, minimum_filter
from bgrem.detection.peaks import DETECTION, detection_table, local_maxima
from bgrem.detection.psf import matched_filter, noise_pixels, psf_fwhm

#: SExtractor's default.conv, the 3 x 3 "all-ground" filter.
DEFAULT_CONV = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=np.float32)
#: SExtractor's defaults (default.sex): mesh, minimum area, threshold in sigma, deblending.
DEFAULT_MESH = 64
DEFAULT_AREA = 5
DEFAULT_THRESHOLD = 1.5
DEFAULT_DEBLEND = (32, 0.005)


@dataclass(frozen=True)
class Subtracted:
    """An image without its sky, and the noise of that.

    Attributes
    ----------
    residual, rms : (ny, nx) float32
        Sky-subtracted image and noise map, data units.
    global_rms : float
        Noise of the whole frame.
    """

    residual: np.ndarray
    rms: np.ndarray
    global_rms: float


def subtract_sky(data, *, mask=None, mesh=DEFAULT_MESH, passes=1):
    """SExtractor's background, with its objects masked in every pass after the first.

    Parameters
    ----------
    data : (ny, nx) array
    mask : (ny, nx) bool, optional
        True where a pixel is bad.
    mesh : int
        Side of the mesh's boxes in pixels.
    passes : int
        1 is what SExtractor does; 2 keeps the wings of objects out of the mesh.

    Returns
    -------
    Subtracted
    """
    image, bad = _clean_input(data, mask)
    hidden = bad
    for left in reversed(range(passes)):
        background = sep.Background(image, mask=hidden, bw=mesh, bh=mesh, fw=3, fh=3)
        residual = image - background.back()
        rms = _without_undershoot(background.rms(), mesh, background.globalrms)
        if left:
            hidden = bad | _object_mask(residual, rms, bad)
            # SEP does not trust a box that is masked by half.
            if hidden.mean() > 0.5:
                break
    return Subtracted(residual, rms.astype(np.float32), float(background.globalrms))


def _without_undershoot(rms, mesh, global_rms):
    """The noise map, nowhere below the least of the boxes around.

    The spline through the boxes swings below zero beside one that a bright star fills; thousands of
    detections there would be surer than any star.
    """
    ny, nx = rms.shape
    # The spline meets the boxes' values in their middles.
    rows, columns = (np.arange(min(mesh, size) // 2, size, mesh) for size in (ny, nx))
    least = minimum_filter(rms[np.ix_(rows, columns)], 3)
    row, column = (
        np.minimum(np.arange(size) // mesh, nodes.size - 1)
        for size, nodes in ((ny, rows), (nx, columns))
    )
    floor = np.maximum(least[np.ix_(row, column)], 1e-3 * global_rms)
    return np.maximum(rms, floor)


def _object_mask(residual, rms, bad):
    """Pixels of objects, four pixels wider than their isophote of two sigma."""
    _, segments = sep.extract(
        residual / rms, 2.0, mask=bad, filter_kernel=DEFAULT_CONV, filter_type="conv",
        segmentation_map=True, clean=False,
    )  # fmt: skip
    from scipy.ndimage import binary_dilation

    return binary_dilation(segments > 0, iterations=4)


def _clean_input(data, mask):
    """Native float32 image, and its bad pixels with what is not finite added."""
    image = np.ascontiguousarray(data, dtype=np.float32)
    bad = ~np.isfinite(image)
    if mask is not None:
        bad |= np.asarray(mask, dtype=bool)
    return np.where(np.isfinite(image), image, np.float32(0)), bad


def detect_peaks(plane, *, threshold=-np.inf, mask=None):
    """Local maxima of a plane; the score is the plane's value.

    Parameters
    ----------
    plane : (ny, nx) array
        bgrem's `centre` logits, for example.
    threshold : float
        Lowest score.
    mask : (ny, nx) bool, optional
        True where nothing is to be detected.

    Returns
    -------
    structured array
        x, y, score.
    """
    return local_maxima(plane, threshold=threshold, usable=None if mask is None else ~mask)


def detect_on_sources(sources, rms, *, width=0.8, threshold=0.05, mask=None):
    """Local maxima of the smoothed sources over the noise.

    The smoothing joins the crumbs that a faint source may be left as; the noise is gone, so the
    threshold stands far below one.

    Parameters
    ----------
    sources, rms : (ny, nx) array
        As `bgrem.separate` gives them.
    width : float
        Standard deviation of the smoothing Gaussian in pixels.
    threshold : float
        Lowest score.
    mask : (ny, nx) bool, optional
        True where nothing is to be detected.

    Returns
    -------
    structured array
        x, y, score; the score is the height of the smoothed plane.
    """
    plane = gaussian_filter(np.nan_to_num(sources / rms), width, outside="mirror")
    return detect_peaks(plane, threshold=threshold, mask=mask)


def find_cosmic_rays(sky, psf, *, mask=None, gain=None):
    """Cosmic rays by L.A.Cosmic (van Dokkum 2001), as astroscrappy does it for a known PSF.

    Parameters
    ----------
    sky : Subtracted
    psf : (n, n) array
    mask : (ny, nx) bool, optional
        Bad pixels.
    gain : float, optional
        Electrons per data unit, for the photon noise of bright sources; without it their noise is
        taken to be 5 % of their light, which keeps the cores of stars.

    Returns
    -------
    (ny, nx) bool
    """
    import astroscrappy
    from scipy.ndimage import median_filter

    light = np.maximum(median_filter(sky.residual, 5), 0.0)
    extra = light / gain if gain else (0.05 * light) ** 2
    fwhm = psf_fwhm(psf)
    rays, _ = astroscrappy.detect_cosmics(
        sky.residual,
        inmask=mask,
        invar=(sky.rms**2 + extra).astype(np.float32),
        satlevel=np.inf,
        sigclip=4.5,
        objlim=5.0,
        fsmode="convolve",
        psfmodel="gauss",
        psffwhm=fwhm,
        psfsize=int(2 * np.ceil(1.4 * fwhm) + 1),
    )
    return rays


def detect_matched_filter(
    data, psf, *, mask=None, cosmic_rays=True, gain=None, threshold=2.0, mesh=DEFAULT_MESH
):
    """Local maxima of the matched filter's S/N.

    Sky and noise from a mesh in two passes (objects masked in the second), cosmic rays found by
    astroscrappy, then the maximum-likelihood flux at each pixel over its error; bad pixels and cosmic
    rays have no weight.

    Parameters
    ----------
    data : (ny, nx) array
    psf : (n, n) array
        Unit sum: the true one, a Gaussian, or `bgrem.detection.psf.measure_psf`.
    mask : (ny, nx) bool, optional
        Bad pixels.
    cosmic_rays : bool
        Whether to look for cosmic rays.
    gain : float, optional
        Electrons per data unit; makes the photon noise of sources known.
    threshold : float
        Lowest S/N.
    mesh : int
        Side of the mesh's boxes in pixels.

    Returns
    -------
    structured array
        x, y, score; the score is the S/N.
    """
    plane = matched_filter_snr(data, psf, mask=mask, cosmic_rays=cosmic_rays, gain=gain, mesh=mesh)
    return local_maxima(plane, threshold=threshold)


def matched_filter_snr(data, psf, *, mask=None, cosmic_rays=True, gain=None, mesh=DEFAULT_MESH):
    """The plane that `detect_matched_filter` looks for maxima in.

    Parameters
    ----------
    data, psf, mask, cosmic_rays, gain, mesh
        See `detect_matched_filter`.

    Returns
    -------
    (ny, nx) float64
        S/N of a point source at each pixel, 0 where it cannot be known.
    """
    sky = subtract_sky(data, mask=mask, mesh=mesh, passes=2)
    _, bad = _clean_input(data, mask)
    if cosmic_rays:
        bad = bad | find_cosmic_rays(sky, psf, mask=bad, gain=gain)
    weight = np.where(bad, 0.0, 1.0 / np.square(sky.rms, dtype=np.float64))
    flux, error = matched_filter(sky.residual, weight, psf)
    # With less than half of the information left, the peak itself is hidden.
    full = sky.rms * noise_pixels(psf) ** 0.5
    return np.where(error < full * 2.0**0.5, flux / error, 0.0)


def threshold_ladder(lowest=0.7, highest=100.0):
    """DETECT_THRESH values: 3 % steps below 3, 15 % above.

    Parameters
    ----------
    lowest, highest : float
        In units of the noise.

    Returns
    -------
    (k,) float64
        Descending.
    """
    fine = np.geomspace(lowest, 3.0, int(np.log(3.0 / lowest) / 0.03) + 1)
    coarse = np.geomspace(3.0, highest, int(np.log(highest / 3.0) / 0.15) + 1)
    return np.concatenate([fine, coarse[1:]])[::-1]


def detect_sextractor_tuned(data, psf, *, mask=None, enough=None):
    """SExtractor as an expert sets it up: PSF as filter, noise map, at every threshold.

    Parameters
    ----------
    data : (ny, nx) array
    psf : (n, n) array
    mask : (ny, nx) bool, optional
        Bad pixels.
    enough : callable, optional
        See `detect_sextractor`.

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


def join_runs(runs, thresholds, *, radius):
    """One scored list from runs at descending thresholds.

    A detection's score is the highest threshold at which it is there.  A list at a lower threshold
    holds those of the higher ones, so no single run can have more of the true sources: blends that a
    low threshold merges stay apart.  Within a step the surer detection goes first.

    Parameters
    ----------
    runs : list of structured array
        x, y, score of each run; the score is an S/N.
    thresholds : (k,) array
        Descending.
    radius : float
        Detections of two runs closer than this are one, in pixels.

    Returns
    -------
    structured array
        x, y, score.
    """
    from scipy.spatial import cKDTree

    joined = np.empty(0, dtype=DETECTION)
    for i, (run, threshold) in enumerate(zip(runs, thresholds, strict=True)):
        new = run
        if joined.size and run.size:
            known = cKDTree(np.column_stack([joined["x"], joined["y"]]))
            distance, _ = known.query(np.column_stack([run["x"], run["y"]]))
            new = run[distance > radius]
        above = thresholds[i - 1] if i else threshold * 1.2
        rank = np.argsort(np.argsort(new["score"], kind="stable"), kind="stable")
        within = threshold + (above - threshold) * rank / max(new.size, 1)
        joined = np.concatenate([joined, detection_table(new["x"], new["y"], within)])
    return detection_table(joined["x"], joined["y"], joined["score"])


def extract(sky, threshold, *, mask=None, kernel=DEFAULT_CONV, area=DEFAULT_AREA, local=False):
    """One run of SExtractor's detection by SEP.

    As in the program, the image is filtered and compared to the *unfiltered* sky's noise.

    Parameters
    ----------
    sky : Subtracted
    threshold : float
        DETECT_THRESH, in units of that noise.
    mask : (ny, nx) bool, optional
        Bad pixels.
    kernel : (n, n) float32
        Detection filter.
    area : int
        DETECT_MINAREA, pixels.
    local : bool
        Whether the noise is that of the map (WEIGHT_TYPE BACKGROUND) or the frame's.

    Returns
    -------
    structured array
        x, y, score; the score is the filtered peak over the noise.
    """
    image = sky.residual / sky.rms if local else sky.residual / np.float32(sky.global_rms)
    levels, contrast = DEFAULT_DEBLEND
    # The library's limits are for sensible thresholds; the ladder goes below.
    sep.set_extract_pixstack(max(300_000, image.size))
    sep.set_sub_object_limit(65_536)
    objects = sep.extract(
        image, threshold, mask=mask, minarea=area, filter_kernel=kernel, filter_type="conv",
        deblend_nthresh=levels, deblend_cont=contrast, clean=True, clean_param=1.0,
    )  # fmt: skip
    return detection_table(objects["x"], objects["y"], objects["cpeak"])


def detect_sextractor_default(data, *, mask=None):
    """SExtractor as it comes, through SEP: one run at its DETECT_THRESH of 1.5, best peak first.

    Parameters
    ----------
    data : (ny, nx) array
    mask : (ny, nx) bool, optional
        Bad pixels.

    Returns
    -------
    structured array
        x, y, score; the score is the filtered peak over the noise.
    """
    _, bad = _clean_input(data, mask)
    return extract(subtract_sky(data, mask=mask), DEFAULT_THRESHOLD, mask=bad)


def detect_sextractor(
    data, *, mask=None, kernel=DEFAULT_CONV, area=DEFAULT_AREA, local=False, lowest=0.7, radius=1.5,
    enough=None,
):  # fmt: skip
    """SExtractor's defaults through SEP, at every threshold of `threshold_ladder`, joined.

    The false-alarm rate of SExtractor is set by DETECT_THRESH: one run for each, everything else at
    its default (mesh 64, default.conv, five pixels, 32 levels, contrast 0.005).

    Parameters
    ----------
    data : (ny, nx) array
    mask : (ny, nx) bool, optional
        Bad pixels: left out of the background and of the detection.
    kernel : (n, n) array
        Detection filter.
    area : int
        DETECT_MINAREA, pixels.
    local : bool
        Threshold in units of the noise map rather than of the frame's noise.
    lowest : float
        Lowest DETECT_THRESH.
    radius : float
        Detections of two runs closer than this are one, in pixels.
    enough : callable, optional
        Asked after each run with its detections; True ends the ladder there.  The list is the same
        down to that threshold, and the lowest ones take most of the time.

    Returns
    -------
    structured array
        x, y, score; see `join_runs`.
    """
    _, bad = _clean_input(data, mask)
    sky = subtract_sky(data, mask=mask)
    thresholds = threshold_ladder(lowest)
    kernel = np.ascontiguousarray(kernel, dtype=np.float32)
    runs = []
    for step in thresholds:
        runs.append(extract(sky, step, mask=bad, kernel=kernel, area=area, local=local))
        if enough is not None and enough(runs[-1]):
            break
    return join_runs(runs, thresholds[: len(runs)], radius=radius)


def detect_source_extractor(data, *, mask=None, lowest=0.7, radius=1.5, program=None):
    """The program itself with its default.sex, at the thresholds of `threshold_ladder`, joined.

    Bad pixels take the value of the sky, which is the best that can be done for the program.

    Parameters
    ----------
    data : (ny, nx) array
    mask : (ny, nx) bool, optional
        Bad pixels.
    lowest : float
        Lowest DETECT_THRESH.
    radius : float
        Detections of two runs closer than this are one, in pixels.
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

    image, bad = _clean_input(data, mask)
    image = np.where(bad, np.median(image[~bad]), image)
    thresholds = threshold_ladder(lowest)[::2]
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        fits.writeto(Path(folder, "image.fits"), image)
        kernel = "\n".join(" ".join(f"{value:g}" for value in row) for row in DEFAULT_CONV)
        Path(folder, "default.conv").write_text(f"CONV NORM\n{kernel}\n")
        Path(folder, "columns").write_text("X_IMAGE\nY_IMAGE\nFLUX_MAX\n")
        for threshold in thresholds:
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
            text = Path(folder, "catalogue").read_text()
            rows = np.array(text.split(), dtype=np.float64).reshape(-1, 3)
            # The program counts pixels from one.
            runs.append(detection_table(rows[:, 0] - 1, rows[:, 1] - 1, rows[:, 2]))
    return join_runs(runs, thresholds, radius=radius)


def source_extractor_program():
    """Path of the installed program, under any of its names.

    Returns
    -------
    str or None
    """
    names = ("source-extractor", "sextractor", "sex")
    return next(filter(None, map(shutil.which, names)), None)
