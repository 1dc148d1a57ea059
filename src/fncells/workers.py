"""Work shared out to processes of this machine, which end with the one that they work for."""

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from typing import TypeVar

from fncells.errors import FncellsError, InputError

__all__ = ["in_parallel", "prepare"]

_LOOKS_EVERY = 0.2  # seconds

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_parallel(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int, *, ordered: bool = True
) -> Generator[Result, None, None]:
    """Do some work on many things, one by one, or several at a time in processes of their own.

    The processes begin at once, and end when the generator is closed; one alone does each thing when its result is asked for.

    Parameters
    ----------
    work
        What is done with each; it crosses to the worker processes, and so do its results.
    jobs
        The things.
    workers
        Number of processes; with one, this process does the work itself.
    ordered
        Whether results come in the order of the jobs, or as they are done.

    Returns
    -------
    generator
        Of the results.

    Raises
    ------
    InputError
        If there is to be no process at all.
    FncellsError
        If a worker process died.
    """
    if workers < 1:
        raise InputError("workers", expected="1 or more", found=str(workers))
    workers = min(workers, len(jobs))
    if workers < 2:
        return (work(job) for job in jobs)
    from joblib import Parallel, delayed  # slow to import, and one process does not need it

    # A worker that has grown large, as by a network, is replaced in passing: nobody needs to know.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
    # Those that are still being prepared may be more than there is work for; the wait for them is short.
    warnings.filterwarnings("ignore", "Trying to resize an executor with running jobs", UserWarning)
    # Whoever stops in mid-work, as by the keyboard, knows that the rest is not done.
    warnings.filterwarnings("ignore", r".*You could benefit from adjusting the input task", UserWarning)
    order = "generator" if ordered else "generator_unordered"
    pool = Parallel(n_jobs=workers, return_as=order, initializer=_begin, initargs=(os.getpid(),))
    with _unless_broken(), _deaf():
        results = pool(delayed(work)(job) for job in jobs)
    return _collected(results)


def _collected(results: Iterable[Result]) -> Generator[Result, None, None]:
    with _unless_broken():
        yield from results


@contextmanager
def _unless_broken() -> Iterator[None]:
    try:
        yield
    except BrokenExecutor as error:
        message = (
            "a worker process died, perhaps for want of memory; the same command with fewer workers goes on from here"
        )
        raise FncellsError(message) from error


@contextmanager
def _deaf() -> Iterator[None]:
    """Let the processes that are started in the block not hear the keyboard, which would stop them in mid-import, aloud."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which, where it begins, would have this thread hear the keyboard again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def prepare(work: Callable[[Job], Result], workers: int) -> None:
    """Start the processes that will do some work, while this one goes on with something else.

    Parameters
    ----------
    work
        What they will be asked for: they import what it needs.
    workers
        How many there will be; one is this process itself.
    """
    if workers > 1:
        threading.Thread(target=_call, args=(work, workers), name="prepare", daemon=True).start()


def _call(work: object, workers: int) -> None:
    with suppress(Exception):  # a process died, or the run ends: whoever gives them work is told
        list(in_parallel(_know, [work] * workers, workers))


def _know(work: object) -> None:
    """Receive the work, with which comes what it imports."""


def _begin(master: int) -> None:
    """Make a worker end when its master does: after a kill it would go on writing where the next run is at work already."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the keyboard stops the master, who speaks for all
    threading.Thread(target=_end_with, args=(master,), daemon=True).start()


def _end_with(master: int) -> None:
    while os.getppid() == master:
        time.sleep(_LOOKS_EVERY)
    os._exit(1)
