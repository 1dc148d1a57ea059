"""The command line: parse, one library call, print.

Exit codes: 0 all done; 1 finished, and some inputs failed (each is named with its reason); 2 nothing done, because of bad
arguments or input. The commands themselves are in :mod:`fncells.commands`, which is imported when one is run, so that
``fncells --help`` stays quick.
"""

import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cyclopts

import fncells
from fncells import files
from fncells.errors import OF_WRITING, FncellsError, OutputError

__all__ = ["COMMANDS", "main", "run"]

_AGAIN_AFTER = 0.05  # seconds


class Room(NamedTuple):
    """Commands that belong together, and the module in :mod:`fncells.commands` that has them."""

    title: str
    module: str
    commands: Mapping[str, str]


ROOMS = (
    Room(
        "From a lab to an archive",
        "labs",
        {
            "demo": "The whole tour on a small synthetic collection, with pictures to look at.",
            "synth": "Make a synthetic lab folder: raw pictures, annotations, metadata and truth.",
            "build": "Make an archive from a lab's raw pictures, annotations and metadata.",
        },
    ),
    Room(
        "Archives",
        "archives",
        {
            "check": "Find what is wrong in an archive or in annotations.",
            "stats": "Describe an archive's cells: the paper's Table 1 and figures.",
            "pack": "Make what is published of an archive: a zip a collection, index, data sheet, statistics.",
            "fetch": "Get the published archive, or one that pack made, by collection.",
        },
    ),
    Room(
        "Annotations",
        "annotations",
        {
            "measure": "Measure every cell of annotations or of an archive.",
            "convert": "Convert annotations from any format to any other.",
            "clean": "Clean masks made by thresholding, as the published yellow ones were.",
        },
    ),
    Room(
        "Networks",
        "networks",
        {
            "train": "Train a c-ResUnet on a collection of an archive.",
            "export": "Export a trained network for other tools.",
        },
    ),
    Room(
        "Cells",
        "counts",
        {
            "predict": "Find the cells of pictures and write them in any format.",
            "count": "Count the cells of pictures, with tables, overlays and a report.",
        },
    ),
    Room(
        "Agreement",
        "scores",
        {
            "evaluate": "Compare predicted cells with true ones: segmentation, detection and counting.",
            "agree": "Compare what several people annotated: with each other, and with what they agree upon.",
        },
    ),
)
COMMANDS = {name: text for room in ROOMS for name, text in room.commands.items()}


def main() -> None:
    """Run the command line of this process and end it with the command's exit code."""
    signal.signal(signal.SIGTERM, _stop)  # what batch systems send to a job whose time is up
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started it wants it to go on
        signal.signal(signal.SIGINT, _stop)
    sys.unraisablehook = _stop_again
    code = run(sys.argv[1:])
    for order in (signal.SIGINT, signal.SIGTERM):
        signal.signal(order, signal.SIG_IGN)  # all is said and done: there is nothing left to stop
    sys.exit(code)


def _stop(*_: object) -> None:
    threading.excepthook = _say_nothing  # a pool that is stopped in mid-work ends its threads in errors
    raise KeyboardInterrupt


def _say_nothing(_: object) -> None:
    pass


def _stop_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Let a stop come again that fell into a destructor, from where it cannot reach the command."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        threading.Timer(_AGAIN_AFTER, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)


def run(arguments: Sequence[str]) -> int:
    """Run a command line.

    Parameters
    ----------
    arguments
        The words after ``fncells``.

    Returns
    -------
    int
        The exit code.
    """
    try:
        app = _app(arguments[0] if arguments else None)
        command, words, _ = app.parse_args(list(arguments), exit_on_error=False, print_error=False)
        common = words.arguments.get("common")
        files.show_progress(not (common and common.quiet))
        return command(*words.args, **words.kwargs) or 0
    except cyclopts.CycloptsError as error:
        return _refuse(f"{' '.join(str(error).split())} (fncells --help, or fncells COMMAND --help, tells more)")
    except FncellsError as error:
        return _refuse(str(error))
    except OSError as error:
        if error.errno in OF_WRITING and error.filename:
            return _refuse(str(OutputError(error.filename, error)))
        return _refuse(f"{error.filename or 'a file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        _refuse("stopped; the same command again goes on from here")
        return 130


def _app(asked: str | None) -> cyclopts.App:
    """Know all commands by their names and short texts; only the one asked for is imported and explains itself at length."""
    app = cyclopts.App(
        name="fncells",
        help="From fluorescence-microscopy pictures and annotations to datasets, trained networks, counts and figures.",
        version=fncells.__version__,
        result_action="return_value",
        help_on_error=False,
        suppress_keyboard_interrupt=False,
    )
    for place, room in enumerate(ROOMS):
        group = cyclopts.Group(room.title, sort_key=place)
        for name, text in room.commands.items():
            said = {} if name == asked else {"help": text}
            app.command(f"fncells.commands.{room.module}:{name}", name=name, group=group, **said)
    return app


def _refuse(line: str) -> int:
    sys.stderr.write(f"fncells: {line}\n")
    return 2
