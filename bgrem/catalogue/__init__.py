"""From the parts of an image to the list of its sources.

Sources are detected on SIGNIF (`detections`) and measured on data - background: with the PSF of the frame
(`point_spread`, `point_fluxes`), in circles and ellipses (`apertures`), and their shapes (`shapes`). `source_measurement`
goes through the frame strip by strip, `table` makes an `astropy.table.QTable` of it, with what the header
states (`header_facts`).
"""

try:
    import scipy  # noqa: F401 - only whether it is there
except ImportError:
    raise ImportError(
        "a catalogue needs SciPy, which is not installed (pip install 'bgrem[catalog]')",
        name="scipy",
    ) from None
