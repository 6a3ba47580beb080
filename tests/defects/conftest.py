"""Frames of a detector with warm pixels."""

import pytest
from camera_frames import WARM, Camera


@pytest.fixture
def camera():
    """Warm pixels of 3.5 to 10 rms and a dark one."""
    made = Camera()
    for place, height in WARM.items():
        made.added[place] = height
    made.added[150, 150] = -8.0
    return made


@pytest.fixture
def night_of(camera, tmp_path):
    """Paths of eight frames of the camera."""
    return camera.write(tmp_path / "frames")
