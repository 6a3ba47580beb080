"""A page for each separated image, which a browser shows without a network."""

from bgrem.arrays.lazy import lazy_names

_HOME = {"image_page": "document", "write_index": "pages"}

__getattr__, __dir__ = lazy_names(__name__, _HOME)
