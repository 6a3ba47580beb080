"""The options of a command as rows of names and meaning, read from its parser."""

import argparse
import importlib


def parser_of(command):
    """The parser of ``bgrem.cli.<command>``."""
    return importlib.import_module(f"bgrem.cli.{command}").make_parser()


def option_groups(parser):
    """Titles of the groups of a parser, each with its rows (names, meaning)."""
    groups = []
    for group in parser._action_groups:
        rows = [
            (names_of(action), help_of(action, parser))
            for action in group._group_actions
            if action.help is not argparse.SUPPRESS
        ]
        if rows:
            groups.append((group.title, rows))
    return groups


def names_of(action):
    """The names of an option, each as a user writes it, with its value."""
    value = value_of(action)
    if not action.option_strings:
        return (value,)
    short = [name for name in action.option_strings if not name.startswith("--")]
    long = [name for name in action.option_strings if name.startswith("--")]
    shown = value and f" {value}"
    return (*short, *long[:-1], *(name + shown for name in long[-1:])) if long else (
        *short[:-1], short[-1] + shown,
    )  # fmt: skip


def value_of(action):
    """The value of an option in the words of its help, empty for a switch."""
    if action.nargs == 0:
        return ""
    choices = action.choices and "|".join(map(str, action.choices))
    names = action.metavar or choices or action.dest.upper()
    value = " ".join(names) if isinstance(names, tuple) else names
    return f"{value} …" if action.nargs == "+" else value


def help_of(action, parser):
    """The help of an option, with its default filled in."""
    if not action.help:
        return "print the version" if "--version" in action.option_strings else ""
    return parser._get_formatter()._expand_help(action)
