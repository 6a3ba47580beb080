"""The directive ``measured``: what a section of the report card printed, and its plots.

``.. measured:: flux`` shows ``results/flux.txt`` with ``results/flux.png`` and ``results/flux_*.png``.
A missing section is reported on the page, so that the page is built without a warning before anything is
measured.
"""

from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive

COMMAND = "python benchmarks/results.py"


class Measured(Directive):
    """One section of the report card."""

    required_arguments = 1

    def run(self):
        """The text and the plots that are there."""
        environment = self.state.document.settings.env
        name, folder = self.arguments[0], Path(environment.srcdir, "results")
        text = folder / f"{name}.txt"
        if not text.exists():
            return [nodes.paragraph("", f"Not measured yet: {COMMAND} {name}")]
        environment.note_dependency(str(text))
        content = text.read_text(encoding="utf-8")
        shown = nodes.literal_block(content, content, language="none", classes=["measured"])
        plots = [path for path in (folder / f"{name}.png", *sorted(folder.glob(f"{name}_*.png")))
                 if path.exists()]  # fmt: skip
        return [shown, *(nodes.image(uri=f"results/{path.name}", alt=name) for path in plots)]


def setup(app):
    """Register the directive."""
    app.add_directive("measured", Measured)
    return {"parallel_read_safe": True}
