"""Files to labelled, lazy Datasets.

Reading opens the file by its path inside each task, reads one box and closes it:
no handle is kept, so a scan can be sent to any worker.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import xarray as xr

from scanfold.conventions import require_bool
from scanfold.io.assemble import assemble, lazy
from scanfold.io.chunks import Chunks
from scanfold.io.describe import Description, describe
from scanfold.io.formats import contents_of, open_saved, openable, saved
from scanfold.io.verify import verify as verify_content

__all__ = ["Description", "describe", "open_scan"]


def __dir__() -> list[str]:
    return sorted(__all__)


def open_scan(
    path: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    scan_shape: Sequence[int] | None = None,
    dims: Sequence[str] | None = None,
    chunks: Chunks = "auto",
    locking: bool | None = None,
    format: str | None = None,
    fields: Mapping[str, str] | None = None,
    kind: str | None = None,
    verify: bool = False,
) -> xr.Dataset:
    """Open a scan lazily: metadata and coordinates are read now, data when it is computed.

    Parameters
    ----------
    path : str, path or URL
        HDF5 of any kind (NeXus, EMD, py4DSTEM and HyperSpy layouts are followed), zarr v2 or v3, NPZ,
        NPY, TIFF or a folder of TIFF frames; with the extra ``vendor`` all that RosettaSciIO reads
        (dm3, dm4, mib, blo, tvips, wdf, bcf, …). A store that `scanfold.save` wrote opens in its own chunks; one
        that is not finished warns. URLs (``s3://``, ``https://``; extra ``remote``) of HDF5 and zarr; credentials and
        addresses are those of the environment, which workers need too (``AWS_…``, or ``FSSPEC_S3_ENDPOINT_URL``).
    dataset : str, optional
        The array in the file. Needed only where the file does not say which is the signal and
        several could be; the error lists them.
    scan_shape : (int, int), optional
        Rows and columns ``(ny, nx)`` of the map: a stack ``(N, …)`` of ``N = ny * nx`` frames or
        spectra, row after row, is folded to ``(y, x, …)``.
    dims : sequence of str, optional
        New names of all dimensions, in order.
    chunks : "auto", int, mapping or tuple
        "auto" follows the file's own chunks, keeps detector dimensions whole and aims at 64 MiB (at
        most 128), and at eight blocks or more in smaller scans. Otherwise as in xarray; dimensions
        that a mapping leaves out are planned as for "auto".
    locking : bool, optional
        False reads an HDF5 file that is still being written, or one on a file system without locks.
        Otherwise large blocks of contiguous, uncompressed data are views of the file, not copies: do not truncate or
        overwrite the file while they are in use.
    format : {None, "ptycho"}
        "ptycho" takes the file for ptychography: frames ``diffraction (position, ky, kx)`` with their positions, the
        probe and the object. NPZ (``diff3d`` or ``diffraction``, ``xcoords``, ``ycoords``, ``probeGuess``, …; or
        ``data``, ``scan``, ``probe`` in FFT order), CXI, NXcxi_ptycho, .ptyd, or HDF5 with `fields`.
    fields : mapping, optional
        With "ptycho", the arrays of the file: ``diffraction``, ``positions`` (M, 2: y, x) or ``position_y`` and
        ``position_x``, ``position_y_nominal``, ``position_x_nominal``, ``probe``, ``object``, ``Y``, ``scan_index``,
        ``object_index``.
    kind : {"amplitude", "intensity"}, optional
        With "ptycho", what the frames are, if not what the format says: amplitude for floats in an NPZ's ``diff3d``
        or ``diffraction``, intensity for all else.
    verify : bool
        Read the whole file once, and compare it with what it holds of checksums: of chunks in zarr (``crc32c``,
        ``zstd`` with its checksum, ``gzip``: what `scanfold.save` writes has them, and no chunk may be missing) and
        in HDF5 (``fletcher32``, ``gzip``), of members in NPZ, of the file in a file ``NAME.sha256`` (``.sha512``,
        ``.sha1``, ``.md5``) beside it. Formats without checksums, such as contiguous HDF5, NPY and TIFF, cannot reveal
        a flipped bit: that warns.

    Returns
    -------
    Dataset
        The signal, with its dimensions in the file's order, and what belongs to it (errors, further signals).
        ``attrs["primary"]`` names the signal; ``attrs["source"]`` says where it is from (JSON).

        Names and units are the file's. Dimensions without names are called ``position, index`` (2-D),
        ``position, ky, kx`` (3-D) and ``y, x, ky, kx`` (4-D); for a map of spectra pass
        ``dims=("y", "x", "energy")``. Detector dimensions without coordinates are counted in pixels.

    Raises
    ------
    InputError
        If the file is missing, damaged, locked, of no known format or without the dataset; if the
        data is not numeric; if `scan_shape`, `dims` or `chunks` do not fit. Reading a damaged block
        raises it too, when it is computed. With `verify`, if a chunk is not what was written.

    Examples
    --------
    >>> import numpy as np, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "stack.npy")
    >>> np.save(path, np.arange(6 * 4 * 4, dtype="uint16").reshape(6, 4, 4))
    >>> scan = open_scan(path, scan_shape=(2, 3))
    >>> scan["data"].dims, scan["data"].shape, int(scan["data"][1, 2, 0, 0])
    (('y', 'x', 'ky', 'kx'), (2, 3, 4, 4), 80)
    """
    name = openable(path)
    require_bool(verify=verify)
    if verify:
        verify_content(name)
    store = open_saved(name) if saved(name) else None
    if store is not None and format == "ptycho":
        from scanfold.io.ptycho import require_scan

        return require_scan(store, name, dataset=dataset, scan_shape=scan_shape, dims=dims, fields=fields, kind=kind)
    if store is not None and dataset is None and scan_shape is None and dims is None and chunks == "auto":
        return store
    contents = contents_of(
        name,
        dataset=dataset,
        scan_shape=scan_shape,
        dims=dims,
        locking=locking,
        format=format,
        fields=fields,
        kind=kind,
    )
    scan = assemble(name, contents, lazy(contents, chunks))
    return scan if store is None else scan.assign_attrs(store.attrs | scan.attrs)
