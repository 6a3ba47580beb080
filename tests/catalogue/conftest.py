"""The parts of a frame of known stars by the shipped model, and its catalogue."""

import pytest
from catalogue_frames import GAIN, frame_of_stars

from bgrem import separate


@pytest.fixture(scope="session")
def known_frame():
    return frame_of_stars()


@pytest.fixture(scope="session")
def known_parts(known_frame):
    return separate(known_frame[0])


@pytest.fixture(scope="session")
def known_table(known_parts):
    return known_parts.catalog(gain=GAIN, zeropoint=25.0)
