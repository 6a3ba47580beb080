"""The directive ``model-card``: the entries of a shipped model's card, read from the model itself."""

from docutils import nodes
from docutils.parsers.rst import Directive

SHOWN = (
    "name", "version", "description", "licence", "channels", "frame", "schedule", "normalisation",
    "tile", "overlap", "box", "training_digest",
)  # fmt: skip


class ModelCardTable(Directive):
    """The card as a list of fields."""

    required_arguments = 1

    def run(self):
        """The fields of the model that the argument names."""
        from bgrem import load_model

        card = load_model(self.arguments[0]).card
        fields = nodes.field_list()
        for name in SHOWN:
            value = getattr(card, name)
            text = ", ".join(value) if isinstance(value, tuple) else str(value)
            body = nodes.field_body("", nodes.paragraph("", text))
            fields += nodes.field("", nodes.field_name("", name), body)
        return [fields]


def setup(app):
    """Register the directive."""
    app.add_directive("model-card", ModelCardTable)
    return {"parallel_read_safe": True}
