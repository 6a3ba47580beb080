"""What the commands share: the parser, the exit codes and the types of arguments."""

import argparse
import io
import math
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

from bgrem import __version__
from bgrem.storage.names import visible_text

__all__ = [
    "Parser", "add_common_options", "complain", "file_name", "integer_from", "number_from",
    "positive_number", "run_command", "sentence",
]  # fmt: skip


# Packages that every command needs (dependencies of pyproject.toml).
CORE_PACKAGES = {"astropy", "numpy", "onnxruntime", "sep", "tqdm"}


class Parser(argparse.ArgumentParser):
    """The parser of a command.

    An error is one sentence without the usage before it, and options cannot be abbreviated.

    Parameters
    ----------
    prog, description, epilog : str
        As for `argparse.ArgumentParser`; line breaks of the epilog are kept.
    **options
        Further arguments of `argparse.ArgumentParser`.
    """

    def __init__(self, prog: str, description: str, epilog: str, **options) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
                prog, max_help_position=28, width=96
            ),
            allow_abbrev=False,
            **options,
        )

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"{self.prog}: {visible_text(message)} (see {self.prog} --help)\n")


def add_common_options(group, *, quiet: str | None = "print errors only") -> None:
    """Add ``--quiet``, unless its help is None, and ``--version``."""
    if quiet:
        group.add_argument("--quiet", action="store_true", help=quiet)
    version = f"bgrem {__version__}"
    group.add_argument("--version", action="version", version=version, help="print the version")


def run_command(
    parser: Parser,
    function: Callable[[argparse.Namespace, Parser], int],
    argv: Sequence[str] | None,
    *,
    extra: str | None = None,
    help_for: Sequence[list[str]] = (),
    prepare: Callable[[list[str], Parser], list[str]] | None = None,
) -> int:
    """Run a command as Unix programs run: a failure is one sentence on stderr.

    A reader that closes the pipe ends the command without a message. Open files are cleaned up after an
    interrupt or a termination. ``function`` does the work: it takes the parsed options and the parser, and
    returns the exit code. ``argv`` are the arguments, by default those of the process; ``prepare`` changes
    them before they are parsed, and those in ``help_for`` print the help. ``extra`` names the extra of the
    package that installs the optional dependencies.

    The exit code is 1 if the command fails and 130 if it is interrupted. Wrong usage exits with code 2, a
    termination with 143.
    """
    before, shown = signal.getsignal(signal.SIGTERM), warnings.showwarning
    if not sys.warnoptions:
        warnings.showwarning = partial(_show_warning, parser.prog)
    argv = list(sys.argv[1:] if argv is None else argv)
    # The name of a file may be any bytes; it is printed unchanged, valid text or not.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        signal.signal(signal.SIGTERM, _terminate)
        if argv in help_for:
            parser.print_help()
            return 0
        return function(parser.parse_args(prepare(argv, parser) if prepare else argv), parser)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more at exit; it must not find the broken pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        complain(parser.prog, "not enough memory")
        return 1
    except (OSError, ValueError) as error:
        complain(parser.prog, sentence(error))
        return 1
    except ImportError as error:
        package = str(error.name).split(".")[0]
        if extra is None and package not in CORE_PACKAGES:
            raise
        missing = isinstance(error, ModuleNotFoundError)
        needed = "bgrem" if package in CORE_PACKAGES else f"bgrem[{extra}]"
        advice = f"{error.name} is not installed (pip install '{needed}')"
        complain(parser.prog, advice if missing else sentence(error))
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
        warnings.showwarning = shown


def complain(prog: str, message: str) -> None:
    """Print a message on stderr, after the name of the command."""
    print(f"{prog}: {visible_text(message)}", file=sys.stderr)


def sentence(error: Exception) -> str:
    """An error in one line; errors of the operating system with the name of the file."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(filter(None, map(str.strip, str(error).splitlines())))


def _show_warning(prog: str, message: Warning | str, category: type[Warning], *_: object) -> None:
    """Print a warning that is for users in one line; those for programmers are not printed."""
    if issubclass(category, UserWarning):
        complain(prog, " ".join(str(message).split()))


def _terminate(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)


def file_name(text: str) -> str:
    """An argparse type: a path, in which ``~`` at the beginning is the home folder."""
    return os.path.expanduser(text)


def integer_from(low: int) -> Callable[[str], int]:
    """An argparse type: a whole number of at least ``low``."""

    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < low:
            raise argparse.ArgumentTypeError(f"{text} is below {low}")
        return value

    return whole_number


def number_from(low: float = -math.inf) -> Callable[[str], float]:
    """An argparse type: a finite number of at least ``low``."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text} is not finite")
        if value < low:
            raise argparse.ArgumentTypeError(f"{text} is below {low:g}")
        return value

    return number


def positive_number(text: str) -> float:
    """An argparse type: a finite number above 0."""
    value = number_from(0)(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 is not above 0")
    return value
