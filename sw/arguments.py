"""What all command lines share: one line for what is wrong, an exit status, a run's arguments.

It imports little, so that ``--help`` is there at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from sw.ir.errors import InputError, VerificationError

OURS = ("sw", "gp", "hw", "sim_tb")
"""A module of these that is missing is an error of ours."""


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, but what is wrong with arguments is one line, as everything else that is wrong."""

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.splitlines())
        self.exit(2, f"{self.prog}: {line}; '{self.prog} --help' says what it takes\n")


def add_run_arguments(parser: argparse.ArgumentParser, *, config_optional: bool = False) -> None:
    """The arguments that every stage takes."""
    nargs = "?" if config_optional else None
    parser.add_argument("config", metavar="CONFIG", nargs=nargs, help="the run's TOML file")
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override one configuration key, such as evolve.generations=10",
    )
    parser.add_argument("--seed", type=int, help="seed of the run (configuration key 'seed')")
    parser.add_argument("--force", action="store_true", help="do the work even if nothing changed")
    add_debug(parser)


def add_debug(parser: argparse.ArgumentParser) -> None:
    """The argument that every command takes."""
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")


def guarded(action: Callable[[], int], *, debug: bool) -> int:
    """Run an action and return its exit status.

    What the user caused becomes one line on stderr and status 2, a verification that fails one line and
    status 1, Ctrl-C status 130, a closed output pipe status 141. A file that the system refuses and a package
    that is not installed are the user's to put right, too.
    """
    try:
        status = action()
        sys.stdout.flush()  # a reader that left is noticed here, not at the very end
        return status
    except InputError as error:
        if debug:
            raise
        print(f"normforge: {error}", file=sys.stderr)
        return 2
    except VerificationError as error:
        if debug:
            raise
        print(f"normforge: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if debug or package in OURS:
            raise
        what = f"package '{package}' must be installed, not missing; 'normforge doctor' says how"
        if package != error.name:
            what = f"package '{package}' must be of another version: it has no '{error.name}'"
        print(f"normforge: {what}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output left (`| head`); nothing more can be said, and that is no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if debug:
            raise
        thing = "a file" if error.filename is None else f"'{error.filename}'"
        print(f"normforge: {thing} cannot be used: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("normforge: stopped; the same command goes on from here", file=sys.stderr)
        return 130
