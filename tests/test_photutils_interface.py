"""The tests of photutils' ``Background2D``, run with ``DiffusionBackground2D`` instead."""

from functools import partial

import pytest

from bgrem import DiffusionBackground2D

theirs = pytest.importorskip("photutils.background.tests.test_background_2d")

# Their fixtures, classes and functions are collected here as well.
globals().update({name: value for name, value in vars(theirs).items() if name[0] != "_"})
pytestmark = pytest.mark.filterwarnings("ignore:.*no effect")

BLOCK = "asks for the mean of a box that is filled with light, which is no sky here"
NUMBERS = "asks for the numbers of an estimator or a filter that the user chooses"
TINY = "an image of fewer than 16 x 16 pixels shows too little sky"
NOT_APPLICABLE = {
    "test_background_nonconstant_data": BLOCK,
    "test_background_rect": TINY,
    "test_filter_threshold": NUMBERS,
    "test_filter_threshold_high": NUMBERS,
    "test_filter_threshold_nofilter": NUMBERS,
    "test_filter_threshold_rms_mesh_before_mesh": NUMBERS,
    "test_integer_input_background_not_truncated": TINY,
    "test_mask": BLOCK,
    "test_masks": TINY,
    "test_no_sigma_clipping": NUMBERS,
}


@pytest.fixture(autouse=True)
def ours(monkeypatch, request, toy_model):
    """``DiffusionBackground2D`` under their name; tests that cannot apply are expected to fail."""
    monkeypatch.setattr(theirs, "Background2D", partial(DiffusionBackground2D, model=toy_model))
    if reason := NOT_APPLICABLE.get(request.node.originalname):
        # The numbers of an estimator may be met by chance.
        request.applymarker(pytest.mark.xfail(reason=reason, strict=reason != NUMBERS))
