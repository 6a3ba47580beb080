"""What a type checker knows of the public functions: mypy tests/check_types.py"""

from typing import assert_type

import numpy as np
from astropy.nddata import CCDData
from astropy.units import Quantity

from bgrem import (
    Failure,
    Model,
    Result,
    Separation,
    aperture_fluxes,
    available_models,
    detect_peaks,
    load_model,
    make_catalog,
    map_blocks,
    process_batch,
    process_file,
    process_files,
    remove_background,
    separate,
    separate_counts,
    sum_uncertainties,
    undo,
)


def check(image: np.ndarray, quantity: Quantity, ccd: CCDData) -> None:
    """Never called: types are all that is looked at."""
    sources: np.ndarray = remove_background(image)  # Any to mypy, which knows no Quantity
    assert_type(remove_background(quantity), Quantity)
    assert_type(remove_background(ccd), CCDData)
    sources = remove_background([[1.0, 2.0]])
    assert_type(separate(image), Separation)
    assert_type(separate(sources).background, np.ndarray)
    assert_type(separate_counts(image, psf=3.0), Separation | list[Separation])
    assert_type(process_file("image.fits"), Result)
    for outcome in process_files(["image.fits"]):
        assert_type(outcome, Result | Failure)
    for outcome in process_batch(["night"], workers=2):
        assert_type(outcome, Result | Failure)
    assert_type(load_model(available_models()[0]), Model)
    undo("BGRem_image.fits").exists()
    peaks = detect_peaks(image, threshold=5.0)
    aperture_fluxes(image, peaks["x"], peaks["y"], 3.0)
    parts, model = separate(image), load_model("optical")
    sum_uncertainties(
        parts, peaks["x"], peaks["y"], 3.0, calibration=model.card.calibration, fwhm=3.0
    )
    map_blocks(image, part="background")
    make_catalog(parts, model=model, wcs=None, unit="adu", false_rate=3.0)
    remove_background(image, steps="two")  # type: ignore[call-overload]
