"""From the parts of an image to the list of its sources.

Sources are detected on SIGNIF (`detections`) and measured on data - background: with the PSF of the frame
(`point_spread`, `point_fluxes`), in circles and ellipses (`apertures`), and their shapes (`shapes`). `source_measurement`
goes through the frame strip by strip, `table` makes an `astropy.table.QTable` of it, with what the header
states (`header_facts`).
"""
