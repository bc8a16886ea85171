"""What is in a file: the arrays, and the scan that `open_scan` would take."""

from __future__ import annotations

import os
import shlex
import warnings
from dataclasses import dataclass

import xarray as xr

from scanfold._markup import element, overview, table
from scanfold.conventions import InputError, fingerprint
from scanfold.io.assemble import assemble, lazy
from scanfold.io.formats import contents_of, format_of, open_saved, openable, saved
from scanfold.io.listing import ArrayInfo

#: Arrays by which a file of ptychography is known: NPZ of PtychoPINN, in its two spellings, and of tike.
_PTYCHOGRAPHY = ({"diff3d", "xcoords", "ycoords"}, {"diffraction", "xcoords", "ycoords"}, {"data", "scan", "probe"})


@dataclass(frozen=True)
class Description:
    """What is in a file.

    Parameters
    ----------
    path, format : str
    nbytes : int
        Size of the file, or of all files of a folder.
    arrays : tuple of ArrayInfo
        Name, shape, dtype, chunks, compression and units of each array.
    scan : Dataset, optional
        The likely scan, lazy.
    problem : str
        Why there is no likely scan, or what to know about it.
    """

    path: str
    format: str
    nbytes: int
    arrays: tuple[ArrayInfo, ...]
    scan: xr.Dataset | None
    problem: str = ""

    def __repr__(self) -> str:
        return f"<io.Description: {self.path}, {self.format}, {self.nbytes:,} bytes, {len(self.arrays)} arrays>"

    def _repr_html_(self) -> str:
        rows = [[a.name, str(a.shape), a.dtype, a.compression or "", a.units or ""] for a in self.arrays]
        arrays = table(["array", "shape", "type", "compression", "units"], rows)
        return overview(self, arrays, element("p", self.problem or self.command))

    @property
    def command(self) -> str:
        """The Python line that opens the scan."""
        if self.scan is not None:
            return f"sf.open_scan({self.path!r})"
        names = {a.name for a in self.arrays}
        if any(layout <= names for layout in _PTYCHOGRAPHY):
            return f"sf.open_scan({self.path!r}, format='ptycho')"
        best = max((a for a in self.arrays if a.numeric), key=lambda a: len(a.shape), default=None)
        return f"sf.open_scan({self.path!r}, dataset={best.name!r})" if best else ""

    @property
    def shell(self) -> str:
        """The path, quoted for a shell."""
        return shlex.quote(self.path)


def describe(path: str | os.PathLike[str]) -> Description:
    """Describe a file without reading its data.

    Raises
    ------
    InputError
        If the file is missing, of no known format, or too damaged to list.

    Examples
    --------
    >>> import numpy as np, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "map.npz")
    >>> np.savez(path, counts=np.zeros((3, 4, 5), "float32"), energy=np.arange(5.0))
    >>> found = describe(path)
    >>> found.format, [str(a) for a in found.arrays]
    ('NPZ', ['counts (3, 4, 5) float32', 'energy (5,) float64'])
    >>> found.scan["counts"].dims
    ('position', 'ky', 'kx')
    """
    name = openable(path)
    kind = format_of(name)
    arrays = tuple(kind.load().arrays(name))
    scan, problem = None, ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            scan = _likely(name)
            problem = "; ".join(str(w.message) for w in caught)
        except InputError as exc:
            problem = str(exc)
    return Description(name, kind.name, fingerprint(name)["size"], arrays, scan, problem)


def _likely(path: str) -> xr.Dataset:
    if saved(path):
        return open_saved(path)
    contents = contents_of(path, dataset=None, scan_shape=None, dims=None, locking=None)
    return assemble(path, contents, lazy(contents, "auto"))
