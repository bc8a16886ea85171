"""The only place that computes to disk: prologue, independent blocks, then the finished store."""

from scanfold.runs.files import FileRun, FileTask
from scanfold.runs.ledger import writing
from scanfold.runs.store import on_finish, open_store, save
from scanfold.runs.transpose import transpose_scan

__all__ = ["FileRun", "FileTask", "on_finish", "open_store", "save", "transpose_scan", "writing"]


def __dir__() -> list[str]:
    return sorted(__all__)
