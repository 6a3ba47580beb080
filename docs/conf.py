"""Configuration of the documentation."""

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "bgrem"
author = "The bgrem developers"
copyright = "2026, the bgrem developers"
release = version = importlib.metadata.version("bgrem")
extensions = ["sphinx.ext.autodoc", "sphinx.ext.intersphinx", "numpydoc", "measured"]
# Nothing is fetched while building: names of other packages are shown, not linked.
intersphinx_mapping = {}
numpydoc_show_class_members = False
autodoc_member_order = "bysource"
html_theme = "alabaster"
html_theme_options = {"description": "sources, background and noise of astronomical images"}
exclude_patterns = ["_build"]
