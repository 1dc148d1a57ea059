"""From pictures to cells and counts."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fncells.commands.common import AS_USUAL, FLAT, Common, name_failures
from fncells.counting import CountSettings, CountSummary
from fncells.counting import count as count_cells
from fncells.counting import predict as predict_cells
from fncells.plane import Plane

__all__ = ["count", "predict"]

FLAT(Plane)  # within the settings: --channel rather than --plane.channel


def predict(
    pictures: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    out: Path,
    to: str = "labels",
    settings: Annotated[CountSettings, FLAT] = CountSettings(),  # noqa: B008 - frozen
    common: Common = AS_USUAL,
) -> int:
    """Find the cells of pictures and write them in any format.

    Example: fncells predict pictures --out cells.json --to via

    Parameters
    ----------
    pictures
        Pictures and folders of pictures.
    out
        The file or folder to write.
    to
        Format of what is written.
    settings
        How to find the cells.
    """
    return _counted(predict_cells(pictures, out, to, settings), common, f"written to {out}")


def count(
    pictures: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    out: Path,
    settings: Annotated[CountSettings, FLAT] = CountSettings(),  # noqa: B008 - frozen
    common: Common = AS_USUAL,
) -> int:
    """Count the cells of pictures, with tables, overlays and a report.

    Every input gets a row in counts.csv; one that cannot be read is a row "failed" with its reason. The same command again goes
    on where an interrupted one stopped.

    Example: fncells count pictures --out counts

    Parameters
    ----------
    pictures
        Pictures and folders of pictures.
    out
        Folder for counts.csv, cells.csv, counts.xlsx, cells.via.json, labels, overlays and report.html.
    settings
        How to count.
    """
    from fncells.report import count_report

    summary = count_cells(pictures, out, settings)
    page = count_report(out)
    return _counted(summary, common, f"open {page}")


def _counted(summary: CountSummary, common: Common, where: str) -> int:
    name_failures(summary.failures)
    done = len(summary.pictures) - len(summary.failures)
    text = f"{summary.n_cells} cells in {done} pictures, {len(summary.failures)} failed; {where}"
    common.result(summary.as_dict(), text)
    return 1 if summary.failures else 0
