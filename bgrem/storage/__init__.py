"""FITS files as bytes: their names, opened and replaced, headers, header-data units and tiles."""
