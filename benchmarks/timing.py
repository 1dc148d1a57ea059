"""Time tasks in turns, and print how they compare."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Task = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line of a table: median seconds of our way, of the others' (None: not installed), and of the limit."""

    what: str
    ours: float
    peers: Mapping[str, float | None]
    limit: float


def medians(tasks: Mapping[str, Task | None], repeats: int) -> dict[str, float | None]:
    """Run the tasks in turns, so that whatever else the machine does falls on all; give median seconds of each.

    Each runs once beforehand, untimed: compilers and caches are warm in the daily use that matters.
    """
    times: dict[str, list[float]] = {name: [] for name, task in tasks.items() if task}
    for turn in range(repeats + 1):
        for name, task in tasks.items():
            if task is None:
                continue
            start = time.perf_counter()
            task()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(times[name]) if name in times else None for name in tasks}


def compare(what: str, ours: Task, peers: Mapping[str, Task | None], limit: Task, repeats: int = 9) -> Row:
    """Time one line of a table."""
    found = medians({"ours": ours, "limit": limit, **peers}, repeats)
    return Row(what, found["ours"] or 0.0, {name: found[name] for name in peers}, found["limit"] or 0.0)


def report(title: str, limit: str, rows: Sequence[Row]) -> None:
    """Print a Markdown table: how many times our time each peer takes, and what share of it the limit is."""
    peers = list(dict.fromkeys(name for row in rows for name in row.peers))
    heads = ["", *(f"{peer} / ours" for peer in peers), "limit / ours", "(ours, ms)"]
    print(f"\n## {title}\n\nLimit: {limit}.\n")
    print("| " + " | ".join(heads) + " |")
    print("|" + " --- |" * len(heads))
    for row in rows:
        ratios = [_ratio(row, peer) for peer in peers]
        print(f"| {row.what} | " + " | ".join([*ratios, f"{row.limit / row.ours:.0%}", f"{row.ours * 1e3:.4g}"]) + " |")


def _ratio(row: Row, peer: str) -> str:
    if peer not in row.peers:
        return ""
    taken = row.peers[peer]
    return "not installed" if taken is None else f"{taken / row.ours:.2f}×"
