"""Images of FITS files: read, written again and restored."""
