"""The directive ``option-table``: the options of a command, read from its parser.

``.. option-table:: undo`` shows one table for each group of options of ``bgrem-undo``.
"""

from docutils import nodes
from docutils.parsers.rst import Directive
from parser_rows import option_groups, parser_of


class OptionTable(Directive):
    """The options of one command."""

    required_arguments = 1

    def run(self):
        """One table for each group."""
        shown = []
        for title, rows in option_groups(parser_of(self.arguments[0])):
            shown += [nodes.rubric("", title.capitalize()), table(rows)]
        return shown


def table(rows):
    """A table of two columns: names as literals, meaning as text."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (32, 68)), cols=2)
    head = nodes.row("", *(entry(nodes.Text(title)) for title in ("Option", "Meaning")))
    group += nodes.thead("", head)
    body = nodes.tbody()
    for names, meaning in rows:
        literals = []
        for name in names:
            literals += [nodes.Text(", ")] * bool(literals) + [nodes.literal("", name)]
        body += nodes.row("", entry(*literals), entry(nodes.Text(meaning)))
    group += body
    return nodes.table("", group, classes=["options"])


def entry(*content):
    """A cell."""
    return nodes.entry("", nodes.paragraph("", "", *content))


def setup(app):
    """Register the directive."""
    app.add_directive("option-table", OptionTable)
    return {"parallel_read_safe": True}
