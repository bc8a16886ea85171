"""Ptychography data: objects, probes, scans simulated lazily with real photon noise, and views for training.

Coming from PtychoPINN
----------------------
Nothing here has global state, needs TensorFlow, or computes when it is imported. Its ways to data, and the calls that
replace them:

=================== ========================================= =====================================================
way                 there                                     here
=================== ========================================= =====================================================
NPZ load            ``RawData.from_file(path)``               ``RawData.from_file(path)``, which leaves the frames in
                                                              the file; ``convert(path, store)`` once, to read parts
nongrid simulation  ``generate_simulated_data(config, …)``    ``generate_simulated_data(objectGuess=…, probeGuess=…,
                                                              config=…)``: any gridsize, a seed that counts, always
                                                              one Dataset (`return_patches` adds `Y`)
grid simulation     ``params.set(…); mk_simdata(…)``          ``mk_simdata(n, size, probe, outer_offset, gridsize=…,
                                                              offset=…)``: one Dataset in place of seven values
direct RawData      ``RawData(…)``                            the same, and ``RawData.from_coords_without_pc(…)``
direct container    ``PtychoDataContainer(…)``                the same; ``compute_dataset_intensity_stats(X)`` for the
                                                              scale; ``from_raw_data_without_pc(…)``
from simulation     ``RawData.from_simulation(…)``            the same, with `nphotons` and `seed`
loading             ``loader.load(lambda: grouped, …)``       ``PtychoDataContainer.from_groups(groups)``
test fixture        a function in each test                   ``scanfold.testing.synthetic_raw_data()``
=================== ========================================= =====================================================

Caches of groups (``*.groups_cache.npz``) are not needed, and not read: they can be deleted. What differs on purpose:

- Patches lie inside the object: positions keep half a frame, and the reach of the jitter, from its edges. There,
  patches are filled with zeros.
- The mean of the intensity statistics is over patterns; there it is over groups, √C too small a scale for C channels.
- Truth is cut at the true position of each frame; there it is mirrored about the centre of its group. Nominal and
  true coordinates stay apart.
- Lines are as dense on objects of any size; there they get thinner as objects grow. Amplitudes are not divided by
  their mean maximum: the photon scale is what sets the counts.
- Objects and probes are complex, and the axes of coordinates are x, y as there, in pixels of the object.
"""

from scanfold.ptycho.config import ModelConfig, TrainingConfig
from scanfold.ptycho.container import PtychoDataContainer
from scanfold.ptycho.grid import mk_simdata
from scanfold.ptycho.normalisation import (
    closed_form_scale,
    compute_dataset_intensity_stats,
    normalize_data,
    scale_nphotons,
)
from scanfold.ptycho.objects import dead_leaves, grf, lines, points, siemens_star, sim_object_image
from scanfold.ptycho.positions import scan_positions
from scanfold.ptycho.probes import default_probe, fresnel_zone_plate, from_data, gaussian, mask, modes, zernike
from scanfold.ptycho.raw_data import RawData, convert
from scanfold.ptycho.simulate import generate_simulated_data

__all__ = [
    "ModelConfig",
    "PtychoDataContainer",
    "RawData",
    "TrainingConfig",
    "closed_form_scale",
    "compute_dataset_intensity_stats",
    "convert",
    "dead_leaves",
    "default_probe",
    "fresnel_zone_plate",
    "from_data",
    "gaussian",
    "generate_simulated_data",
    "grf",
    "lines",
    "mask",
    "mk_simdata",
    "modes",
    "normalize_data",
    "points",
    "scale_nphotons",
    "scan_positions",
    "siemens_star",
    "sim_object_image",
    "zernike",
]


def __dir__() -> list[str]:
    return sorted(__all__)
