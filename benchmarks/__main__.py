"""Run the benchmarks of speed, or those named; those that take minutes or need real pictures only where they are named."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from benchmarks import encoding, matching, measuring, network, tracing

BENCHMARKS = {
    "encoding": encoding.run,
    "matching": matching.run,
    "measuring": measuring.run,
    "network": network.run,
    "tracing": tracing.run,
}
ALONE = ("accuracy", "building", "likeness", "transfer")  # each with options of its own


def main(arguments: Sequence[str]) -> None:
    if arguments and arguments[0] in ALONE:
        importlib.import_module(f"benchmarks.{arguments[0]}").main(arguments[1:])
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(BENCHMARKS)}; all where none is named; or one of {', '.join(ALONE)}, alone",
    )
    names = parser.parse_args(arguments).names or list(BENCHMARKS)
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join([*BENCHMARKS, *ALONE])}")
    for name in names:
        BENCHMARKS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
