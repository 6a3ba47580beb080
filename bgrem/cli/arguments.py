"""The commands: they parse arguments and print; the work is done on the floors below."""

import argparse
import functools
import io
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

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
    """A parser that says what is wrong in one sentence, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def command(prog: str, *, extra: str | None = None) -> Callable[[Callable], Callable[..., int]]:
    """Give a command the manners of a Unix program.

    What cannot be done is said on stderr in one sentence, with exit code 1. An interrupt ends it with
    exit code 130 and a termination with 143, both after its open files have been cleaned up; a reader
    that closed the pipe ends it silently.

    Parameters
    ----------
    prog : str
        Its name, which each sentence begins with.
    extra : str, optional
        The extra of the package that brings what may not be installed.

    Returns
    -------
    callable
        Decorator of a function of argv that gives the exit code.
    """

    def decorate(function: Callable[[Sequence[str] | None], int]) -> Callable[..., int]:
        @functools.wraps(function)
        def main(argv: Sequence[str] | None = None) -> int:
            before = signal.getsignal(signal.SIGTERM)
            # The name of a file may be any bytes: it is printed as it is, valid text or not.
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="surrogateescape")
            try:
                signal.signal(signal.SIGTERM, _terminate)
                return function(argv)
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

        return main

    return decorate


def complain(prog: str, message: str) -> None:
    """Say on stderr what is wrong."""
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
