"""Draw an image before and after bgrem: ``python examples/plot_demo.py IMAGE CLEANED PNG``."""

import sys

import numpy as np
from matplotlib.figure import Figure

from bgrem.fits import as_planes, read_image


def main(image, cleaned, png):
    """Draw the first plane of both on one stretch, in units of the sky rms."""
    before, after = read_image(image), read_image(cleaned)
    level, rms = after.header["BGR_LEVL"], after.header["BGR_RMS"]
    kept = level if after.header["BGR_KEEP"] else 0
    figure = Figure(figsize=(14, 7.4), layout="constrained")
    for axes, pixels, title in zip(
        figure.subplots(1, 2, sharex=True, sharey=True),
        (as_planes(before.data)[0] - level, as_planes(after.data)[0] - kept),
        ("before, sky level subtracted", "after, sources only"),
        strict=True,
    ):
        stretched = np.arcsinh(pixels / rms)
        axes.imshow(
            stretched, origin="lower", cmap="gray", vmin=np.arcsinh(-2), vmax=np.arcsinh(30)
        )
        axes.set(title=title, xticks=[], yticks=[])
    figure.savefig(png, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
