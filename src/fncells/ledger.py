"""What is done already, kept so that an interrupted run goes on where it stopped."""

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fncells.errors import OutputError

__all__ = ["LEDGER_NAME", "Ledger"]

LEDGER_NAME = ".fncells-ledger.sqlite"

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_TABLE = "CREATE TABLE IF NOT EXISTS done (task TEXT, digest TEXT, value TEXT, PRIMARY KEY (task, digest))"


class Ledger:
    """Results by task and digest, each kept as soon as it is put.

    A digest tells everything that a result depends on: where it is the same, the result is. A damaged file holds nothing that
    cannot be computed again, so it is set aside (``….damaged``) and begun anew.

    Parameters
    ----------
    path
        The SQLite file; it is made where there is none.

    Raises
    ------
    OutputError
        If the folder is full or cannot be written; also whenever something is put.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._database = self._opened()
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                    raise
                path.replace(path.with_name(f"{path.name}.damaged"))
                self._database = self._opened()
        except (OSError, sqlite3.Error) as error:
            raise OutputError(path.parent, error) from error

    def _opened(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=60, isolation_level=None)
        try:
            # What is put survives a killed process all the same; waiting for the disk each time would take longer than the
            # work on a small picture, and what a power cut damages can be computed again.
            database.execute("PRAGMA synchronous = OFF")
            database.execute(_TABLE)
            database.execute("SELECT count(*) FROM done").fetchone()
        except sqlite3.Error:
            database.close()
            raise
        return database

    def get(self, task: str, digest: str) -> Any | None:
        """Give the value kept for a task's digest; None where there is none."""
        row = self._run("SELECT value FROM done WHERE task = ? AND digest = ?", (task, digest)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, task: str, digest: str, value: object) -> None:
        """Keep a value that JSON can hold; it survives a kill from here on."""
        text = json.dumps(value, allow_nan=False)
        self._run("INSERT OR REPLACE INTO done VALUES (?, ?, ?)", (task, digest, text))

    def _run(self, statement: str, values: Sequence[str]) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise OutputError(self._path.parent, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
