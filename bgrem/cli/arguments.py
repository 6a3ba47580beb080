"""What the commands share: their parser, their manners and the types of their arguments."""

import argparse
import functools
import io
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from bgrem import __version__

__all__ = [
    "Parser",
    "command",
    "complain",
    "integer_from",
    "number_from",
    "positive_number",
    "sentence",
]


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one sentence, without the usage before it.

    Parameters
    ----------
    prog : str
    **settings
        As for `argparse.ArgumentParser`.
    """

    def __init__(self, prog: str, **settings: Any) -> None:
        def formatter(prog: str) -> argparse.HelpFormatter:
            return argparse.RawDescriptionHelpFormatter(prog, max_help_position=28, width=96)

        super().__init__(prog, formatter_class=formatter, allow_abbrev=False, **settings)

    def add_version(self, group: Any = None, description: str | None = None) -> None:
        """The option --version."""
        (group or self).add_argument(
            "--version", action="version", version=f"{self.prog.split('-')[0]} {__version__}",
            help=description or "show program's version number and exit",
        )  # fmt: skip

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def command(
    make_parser: Callable[[], Parser],
    *,
    extra: str | None = None,
    help_of: Sequence[Sequence[str]] = (),
    prepared: Callable[[list[str], Parser], list[str]] = lambda argv, _: argv,
) -> Callable[[Callable], Callable[..., int]]:
    """Give a command the behaviour of a Unix program.

    Parse its arguments, and report a failure on stderr in one sentence, with exit code 1. An interrupt
    ends it with exit code 130 and a termination with 143, both after its open files have been cleaned
    up; a reader that closed the pipe ends it silently.

    Parameters
    ----------
    make_parser : callable
        Gives its parser.
    extra : str, optional
        The extra of the package that brings what may not be installed.
    help_of : sequence of sequence of str
        Arguments that print the help.
    prepared : callable
        Prepares the arguments for the parser.

    Returns
    -------
    callable
        Decorator of a function of the options and the parser that gives the exit code; it makes one of
        the arguments, by default those of the process.
    """

    def decorate(function: Callable[[argparse.Namespace, Parser], int]) -> Callable[..., int]:
        @functools.wraps(function)
        def main(argv: Sequence[str] | None = None) -> int:
            argv, parser = list(sys.argv[1:] if argv is None else argv), make_parser()
            if argv in help_of:
                parser.print_help()
                return 0
            options = parser.parse_args(prepared(argv, parser))
            return _guarded(lambda: function(options, parser), parser.prog, extra)

        del main.__wrapped__  # whose parameters are others
        return main

    return decorate


def _guarded(run: Callable[[], int], prog: str, extra: str | None) -> int:
    before = signal.getsignal(signal.SIGTERM)
    # The name of a file may be any bytes: it is printed as it is, valid text or not.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        signal.signal(signal.SIGTERM, _terminate)
        return run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more at exit; it must not find the broken pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ValueError) as error:
        complain(prog, sentence(error))
        return 1
    except ImportError as error:
        if extra is None:
            raise
        missing = isinstance(error, ModuleNotFoundError)
        advice = f"{error.name} is not installed (pip install 'bgrem[{extra}]')"
        complain(prog, advice if missing else sentence(error))
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)


def complain(prog: str, message: str) -> None:
    """Report on stderr what is wrong."""
    print(f"{prog}: {message}", file=sys.stderr)


def sentence(error: Exception) -> str:
    """An error in one line; one of the operating system with the name of its file."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(filter(None, map(str.strip, str(error).splitlines())))


def _terminate(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)


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
