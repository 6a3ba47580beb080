"""Draw an image before and after bgrem: ``python examples/plot_demo.py IMAGE CLEANED PNG``."""

import sys

import numpy as np
from astropy.io import fits
from matplotlib.figure import Figure


def first_image(path):
    """The pixels of the first HDU of a file that holds an image."""
    with fits.open(path) as hdus:
        return np.array(next(hdu.data for hdu in hdus if hdu.is_image and hdu.data is not None))


def main(image, cleaned, png):
    """Draw both on one stretch, from -2 to 12 sky rms around the sky level."""
    header = next(hdu.header for hdu in fits.open(cleaned) if "BGR_RMS" in hdu.header)
    level, rms = header["BGR_LEVL"], header["BGR_RMS"]
    before = (first_image(image) - level) / rms
    after = (first_image(cleaned) - level * header["BGR_KEEP"]) / rms
    figure = Figure(figsize=(14, 7.4), layout="constrained")
    for axes, pixels, title in zip(
        figure.subplots(1, 2, sharex=True, sharey=True),
        (before, after),
        ("before: sky level subtracted", "after: sources only"),
        strict=True,
    ):
        stretched = np.arcsinh(np.clip(pixels, -2, 200))
        axes.imshow(
            stretched, origin="lower", cmap="gray", vmin=np.arcsinh(-2), vmax=np.arcsinh(30)
        )
        axes.set(title=title, xticks=[], yticks=[])
    figure.savefig(png, dpi=110)
    print(png)


if __name__ == "__main__":
    main(*sys.argv[1:])
