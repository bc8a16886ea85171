"""Maps and scans into the files that other programs read.

=============== ============ ==============================================================
function        files        read by
=============== ============ ==============================================================
`export_csv`    ``.csv``     spreadsheets, pandas, R: one row per position
`export_hspy`   ``.hspy``    HyperSpy, pyxem, RosettaSciIO
`export_nexus`  ``.nxs``     silx, nexusformat, scippnexus, h5py; xarray and netCDF programs
`export_tiff`   ``.tif``     ImageJ and Fiji, with units and pixel size
=============== ============ ==============================================================

Each takes what is in memory, what is lazy, and what `scanfold.open_scan` or
`scanfold.save` returned, and writes slab by slab; a file appears when it is
complete. The zarr stores of `scanfold.save` remain the place where a long run
belongs: exporting does not resume.
"""

from scanfold.export.hspy import export_hspy
from scanfold.export.nexus import export_nexus
from scanfold.export.table import export_csv
from scanfold.export.tiff import export_tiff

#: The functions by the suffix of what they write.
BY_SUFFIX = {
    ".csv": export_csv,
    ".hspy": export_hspy,
    ".nxs": export_nexus,
    ".nc": export_nexus,
    ".h5": export_nexus,
    ".tif": export_tiff,
    ".tiff": export_tiff,
}

__all__ = ["BY_SUFFIX", "export_csv", "export_hspy", "export_nexus", "export_tiff"]


def __dir__() -> list[str]:
    return sorted(__all__)
