"""What a command writes beside its result: tables, pictures, pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scanfold._paths import local, replace_file
from scanfold.conventions import InputError, is_url

#: Options that name a file, and those that name a store, which may be at a URL; others name a folder.
_FILES, _STORES = ("csv", "report", "plot"), ("out", "gather")


def check_outputs(options: Mapping[str, Any], *names: str) -> dict[str, Path]:
    """Return the paths that were given of these options; their folders must exist now, not in an hour.

    Raises
    ------
    InputError
        If what is no store is at a URL, a folder is missing, something else has the name of a file or folder, the name
        of a picture does not end in a format of pictures, or two options name one file.
    """
    given = [n for n in names if options[n] and not (n in _STORES and is_url(options[n]))]
    outputs = {name: local(options[name], "tables, pictures and pages") for name in given}
    for name, path in outputs.items():
        if not path.absolute().parent.is_dir():
            raise InputError(f"--{name} {path}: there is no folder {path.parent}")
        if name in _FILES and path.is_dir():
            raise InputError(f"--{name} {path} is a folder; expected the name of a file")
        if name == "plot":
            _require_picture(path)
        if name == "plots" and path.exists() and not path.is_dir():
            raise InputError(f"--plots {path} is a file; expected a folder, which need not exist")
        others = [n for n in ("out", *names) if n != name and options.get(n)]
        for other in others if name in _FILES else ():
            if Path(options[other]).absolute() == path.absolute():
                raise InputError(f"--{name} and --{other} are both {path}; give each a name of its own")
    return outputs


def _require_picture(path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    formats = sorted(FigureCanvasAgg.filetypes)
    if path.suffix.lower().removeprefix(".") not in formats:
        raise InputError(f"--plot {path}: expected the name of a picture, which ends in one of {', '.join(formats)}")


def write_table(frame: Any, path: Path) -> None:
    """Write a pandas table as CSV, at one stroke; maps go through `scanfold.export_csv`."""
    with replace_file(path) as temporary:
        frame.to_csv(temporary, index=False)


def write_outputs(outputs: Mapping[str, Path], **writers: Callable[[Path], Any]) -> None:
    """Write what was asked for, and say so; a writer of several files returns them in a list."""
    for name, write in writers.items():
        if name in outputs:
            made = write(outputs[name])
            for path in made if isinstance(made, list) else [outputs[name]]:
                print(f"wrote {path}")
