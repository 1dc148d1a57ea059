"""Work shared out to processes."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

from fncells.errors import FncellsError, InputError
from fncells.workers import in_parallel, prepare


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_jobs(workers):
    assert list(in_parallel(lambda number: number**2, range(4), workers)) == [0, 1, 4, 9]
    assert list(in_parallel(lambda number: number**2, range(0), workers)) == []


def test_results_come_as_they_are_done_where_order_does_not_matter():
    done = list(in_parallel(lambda seconds: time.sleep(seconds) or seconds, [1.0, 0.0], 2, ordered=False))
    assert done == [0.0, 1.0]


def test_one_process_does_its_work_itself():
    assert list(in_parallel(lambda _: os.getpid(), [1, 2], 1)) == [os.getpid()] * 2
    assert os.getpid() not in list(in_parallel(lambda _: os.getpid(), [1, 2], 2))


@pytest.mark.parametrize("workers", [0, -1])
def test_no_process_at_all_is_refused(workers):
    with pytest.raises(InputError, match=f"workers: expected 1 or more, found {workers}"):
        list(in_parallel(abs, [1], workers))


def test_a_worker_that_dies_is_one_line():
    with pytest.raises(FncellsError, match=r"a worker process died, .* fewer workers goes on from here"):
        list(in_parallel(lambda number: os._exit(1) if number == 2 else number, range(4), 2))


def test_a_worker_that_grows_large_is_replaced_without_a_word():
    def grow(number):
        vars(sys).setdefault("grown", []).append(bytearray(350_000_000))
        time.sleep(1.1)
        return number

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert list(in_parallel(grow, range(6), 2)) == list(range(6))
    assert not told


def test_who_stops_in_mid_work_hears_nothing_of_what_was_left():
    def work(number):
        time.sleep(0.05)
        return number

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        results = in_parallel(work, range(50), 2)
        assert next(results) == 0
        time.sleep(0.5)  # until others are done
        results.close()
    assert not told


def test_processes_begin_at_once_and_end_when_nobody_wants_more(tmp_path):
    def work(number):
        for _ in range(100):
            (tmp_path / f"{number}").write_text(f"{time.monotonic()}")
            time.sleep(0.05)

    results = in_parallel(work, range(4), 2)
    for _ in range(600):
        if len(list(tmp_path.iterdir())) == 2:
            break
        time.sleep(0.05)
    results.close()
    after = [path.read_text() for path in sorted(tmp_path.iterdir())]
    time.sleep(0.5)
    assert len(after) == 2
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == after


def test_prepared_processes_import_the_work_before_there_is_any_and_then_do_it(tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text(
        "import os, time; from pathlib import Path\n"
        "(Path(__file__).parent / f'{os.getpid()}').touch()\n"
        "def work(number): time.sleep(0.3); return os.getpid()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from slow_to_import import work

    prepare(work, 1)
    assert imported(tmp_path) == {os.getpid()}
    prepare(work, 2)
    for _ in range(600):
        if len(imported(tmp_path)) > 1:
            break
        time.sleep(0.05)
    early = imported(tmp_path) - {os.getpid()}
    assert early
    assert early <= set(in_parallel(work, range(4), 2))


class Slow:
    """Takes its time to arrive in another process."""

    def __reduce__(self):
        return time.sleep, (1.5,)


def test_more_prepared_than_there_is_work_for_is_no_warning():
    list(in_parallel(abs, range(3), 3))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        prepare(Slow(), 3)
        time.sleep(0.5)  # until they are at it
        assert list(in_parallel(abs, [-1, -2], 2)) == [1, 2]
    assert not told


def test_who_prepares_hears_nothing_of_a_death():
    """The work itself is told of it, if there is any."""
    prepare(Deadly(), 2)
    for thread in threading.enumerate():
        if thread.name == "prepare":
            thread.join(30)
    assert list(in_parallel(abs, [-1, -2], 2)) == [1, 2]


class Deadly:
    """Ends the process that receives it."""

    def __reduce__(self):
        return os._exit, (1,)


def imported(folder):
    return {int(path.name) for path in folder.iterdir() if path.name.isdecimal()}


def test_workers_are_deaf_to_the_keyboard_from_their_first_moment():
    """Else one that is just starting would end in a traceback."""
    masks = list(in_parallel(lambda _: signal.pthread_sigmask(signal.SIG_BLOCK, ()), range(3), 3))
    assert all(signal.SIGINT in mask for mask in masks)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


LASTING = """
import signal, sys, time
from pathlib import Path
from fncells.workers import in_parallel

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts the tests in the background has it ignored

def work(number):
    for _ in range(200):
        with (Path(sys.argv[1]) / f"{number}").open("a") as file:
            file.write("at work\\n")
        time.sleep(0.05)

try:
    list(in_parallel(work, range(4), 2))
except KeyboardInterrupt:
    print("stopped", file=sys.stderr)
"""


def lasting(folder):
    """A process that has two workers at work for a long time."""
    command = [sys.executable, "-c", LASTING, str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    for _ in range(600):
        if len(list(folder.iterdir())) == 2:
            return process
        time.sleep(0.05)
    raise AssertionError(process.communicate())


def written(folder):
    return sum(path.stat().st_size for path in folder.iterdir())


def test_workers_end_with_their_master_however_it_ends(tmp_path):
    with lasting(tmp_path) as process:
        process.kill()
        process.wait()
        time.sleep(1)
        after = written(tmp_path)
        time.sleep(0.5)
        assert written(tmp_path) == after


def test_the_keyboard_stops_all_and_the_master_alone_speaks(tmp_path):
    with lasting(tmp_path) as process:
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert told == "stopped\n"
