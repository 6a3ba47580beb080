"""Configuration of the documentation."""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

import bgrem

project = "bgrem"
author = "The bgrem developers"
copyright = "2026, the bgrem developers"
release = version = bgrem.__version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_design",
    "measured",
    "model_card",
    "option_table",
]
numpydoc_show_class_members = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
default_role = "py:obj"
highlight_language = "none"
exclude_patterns = ["_build"]

html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "logo": {"text": "bgrem"},
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": False,
    "show_toc_level": 2,
}
html_static_path = ["_static"]
html_css_files = ["bgrem.css"]
html_title = f"bgrem {version}"
html_show_sourcelink = False
html_sidebars = {"index": [], "start": []}


def shorten_types(app, what, name, obj, options, lines):
    """Show ~numpy.ndarray as ndarray in the types of parameters, where numpydoc makes no link."""
    lines[:] = [re.sub(r"(?<!`)~(?:\w+\.)+(\w+)", r"\1", line) for line in lines]


def setup(app):
    """Run after numpydoc has written the docstring anew."""
    app.connect("autodoc-process-docstring", shorten_types, priority=900)
