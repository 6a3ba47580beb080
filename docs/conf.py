"""Configuration of the documentation."""

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from docutils import nodes
from docutils.parsers.rst import Directive

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


class ModelCardTable(Directive):
    """The entries of a shipped model's card, read from the model itself."""

    required_arguments = 1
    shown = (
        "name", "version", "description", "licence", "channels", "frame", "schedule", "normalisation",
        "tile", "overlap", "box", "training_digest",
    )  # fmt: skip

    def run(self):
        """The entries as a list of fields."""
        from bgrem import load_model

        card = load_model(self.arguments[0]).card
        fields = nodes.field_list()
        for name in self.shown:
            value = getattr(card, name)
            text = ", ".join(value) if isinstance(value, tuple) else str(value)
            body = nodes.field_body("", nodes.paragraph("", text))
            fields += nodes.field("", nodes.field_name("", name), body)
        return [fields]


def setup(app):
    """Make the directive known."""
    app.add_directive("model-card", ModelCardTable)
