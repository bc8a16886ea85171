"""Trials that do what no reader may, to see that they are found out."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Mischief:
    """Something that is done when it is tried."""

    do: Callable[[], Any]
    most: float = 300.0
    names: tuple[str, ...] | None = None

    def begin(self, folder: Path) -> None:
        """Do nothing yet."""

    def prepare(self, folder: Path, seed: int) -> Any:
        """Make nothing."""

    def attempt(self, made: Any) -> tuple[str, str]:
        """Do it."""
        self.do()
        return "right", ""


def _refuse() -> None:
    from scanfold.conventions import InputError

    raise InputError("no")


TRIALS = {
    "sleeps": Mischief(lambda: time.sleep(60)),
    "dies": Mischief(lambda: os.abort()),
    "grows": Mischief(lambda: bytearray(b"x") * 2**29),
    "writes": Mischief(lambda: Path("made").write_text("x")),
    "unpickles": Mischief(lambda: pickle.loads(pickle.dumps(os.getcwd))),
    "divides": Mischief(lambda: 1 / 0),
    "behaves": Mischief(_refuse),
}
