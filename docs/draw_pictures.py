"""Draw the pictures of the documentation from the bundled sample frame: python docs/draw_pictures.py"""

from pathlib import Path

import numpy as np

from bgrem import separate
from bgrem.io.reading import read_image
from bgrem.report.pictures import before_after, png, stretched

DOCS = Path(__file__).resolve().parent
SAMPLE = DOCS.parent / "examples" / "meerlicht_sample.fits.fz"
CORNER = (slice(160, 460), slice(60, 360))  # a galaxy, stars, cosmic rays


def main():
    """Write before_after.png, background.png and noise.png."""
    parts = separate(read_image(SAMPLE).data, maps=())
    level, rms = parts.sky.level, parts.sky.rms
    pictures = {
        "before_after": before_after(
            (parts.data - level)[CORNER] / rms, parts.sources[CORNER] / rms
        ),
        "background": png(stretched((parts.background - level)[CORNER] / rms, black=-3, white=3)),
        "noise": png(stretched(np.clip(parts.noise[CORNER] / rms, -3, 30))),
    }
    for name, content in pictures.items():
        (DOCS / "pictures" / f"{name}.png").write_bytes(content)


if __name__ == "__main__":
    main()
