"""The folder of a run: arrays of k-space, images of real space, figures, logs."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from scanfold.conventions import InputError, versions
from scanfold.detectors.config import Config, as_yaml
from scanfold.export import tiff

__all__ = ["Folder", "as_yaml"]
FOLDERS = ("kspace", "realspace", "figures", "logs")
#: Files whose number or presence depends on the run: those of an earlier one are cleared away.
VARYING = (
    "kspace/template_T_*.npy", "kspace/gate_G_*.npy", "kspace/mu_cluster_*.npy", "kspace/mu_cluster_*.png",
    "realspace/S_cluster_*.tif", "realspace/E[xy]_*.tif", "realspace/com_[xy]_*.tif", "realspace/residual.tif",
    "realspace/divergence.tif", "realspace/curl.tif", "realspace/charge.tif", "realspace/phase.tif",
    "figures/split_half.png", "figures/derived.png", "figures/DPC_quiver_disc.png",
)  # fmt: skip
#: Maps of the chosen detector, and of each detector beside it.
OF_DETECTOR = {
    "Ex": "Ex",
    "Ey": "Ey",
    "E_mag": "E_mag",
    "E_angle": "E_angle",
    "com_x": "com_x_raw",
    "com_y": "com_y_raw",
}
BESIDE = ("Ex", "Ey", "com_x", "com_y")


class Folder:
    """Where a run writes.

    Parameters
    ----------
    path : Path
        Need not exist.
    """

    def __init__(self, path: Path):
        self.path = path
        self.started = datetime.now(UTC)

    @property
    def hidden(self) -> Path:
        """Where the passes are kept, to be resumed."""
        return self.path / ".scanfold"

    def prepare(self) -> None:
        """Make the folders.

        Raises
        ------
        InputError
            If they cannot be made or written to.
        """
        try:
            for name in FOLDERS:
                (self.path / name).mkdir(parents=True, exist_ok=True)
                probe = self.path / name / ".writable"
                probe.touch()
                probe.unlink()
            self.hidden.mkdir(exist_ok=True)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise InputError(f"cannot write to {str(self.path)!r}: {reason}; pass another folder as out") from error

    def claim(self, options: Config, resume: bool) -> None:
        """Enter what the run is; clear away what another left, if it is not to be resumed.

        Raises
        ------
        InputError
            If the folder holds a run with other options.
        """
        log = self.path / "logs/run.json"
        if log.exists() and resume:
            kept = json.loads(log.read_text()).get("config", {})
            lines = [
                f"  {section}.{name}: {kept.get(section, {}).get(name)!r} there, {value!r} now"
                for section, keys in json.loads(json.dumps(options)).items()
                for name, value in keys.items()
                if kept.get(section, {}).get(name) != value
            ]
            if lines:
                raise InputError(
                    f"{self.path} holds a run with other options, and is left as it is:\n" + "\n".join(lines)
                    + "\nPass another out, or resume=False (--no-resume) to replace it"
                )  # fmt: skip
        for pattern in VARYING:
            for file in self.path.glob(pattern):
                file.unlink()
        self._json("logs/run.json", {"state": "begun", "timestamp": self.started.isoformat(), "config": options})

    def write(self, ds: xr.Dataset, options: Config) -> None:
        """Write the arrays of k-space and the images of real space."""
        for number, label in enumerate(ds["cluster"].values):
            self._array(f"template_T_{label}", ds["template"][number])
            self._array(f"gate_G_{label}", ds["gate"][number])
            self._array(f"mu_cluster_{label}", ds["cluster_mean"][number])
            self._image(f"S_cluster_{label}", ds["score"][..., number])
        self._array("mu_global", ds["mean"])
        self._array("sigma_global", ds["std"])
        self._image("S_argmax", ds["assignment"], "int16")
        self._image("S_confidence", ds["confidence"])
        for title, name in OF_DETECTOR.items():
            self._image(title, ds[name].sel(detector=options["dpc"]["gate_mode"]))
        for detector in ds["detector"].values:
            for title in BESIDE:
                self._image(f"{title}_{detector}", ds[OF_DETECTOR[title]].sel(detector=detector))
        for name in ("residual", "divergence", "curl", "charge", "phase"):
            if name in ds:
                self._image(name, ds[name])

    def draw(self, ds: xr.Dataset, options: Config) -> None:
        """Draw the figures."""
        from scanfold.detectors import figures

        mode = options["dpc"]["gate_mode"]
        drawn = {
            "montage_templates": figures.montage(ds),
            "hsv_polarisation": figures.hsv_map(ds, list(dict.fromkeys([mode, "disc"]))),
            "DPC_quiver": figures.quiver(ds, mode),
            "com_components": figures.com_components(ds),
            "contrast_maps": figures.contrast_maps(ds),
            "confidence": figures.confidence_histogram(ds),
        }
        if mode != "disc":
            drawn["DPC_quiver_disc"] = figures.quiver(ds, "disc")
        if "correlation" in ds:
            drawn["split_half"] = figures.split_halves(ds)
        if "divergence" in ds:
            drawn["derived"] = figures.derived(ds)
        for name, figure in drawn.items():
            figure.savefig(self.path / f"figures/{name}.png", dpi=160)
        for number, label in enumerate(ds["cluster"].values):
            figures.mean_pattern(ds, number).savefig(self.path / f"kspace/mu_cluster_{label}.png", dpi=150)

    def log(
        self, options: Config, described: Mapping[str, Any], seconds: Mapping[str, float], notes: Sequence[str]
    ) -> None:
        """Write parameters, configuration and timings; the configuration makes the same run again."""
        timings = {**seconds, "total": (datetime.now(UTC) - self.started).total_seconds()}
        self._json("logs/run.json", {
            "state": "complete", "timestamp": self.started.isoformat(), "command_line": sys.argv, "config": options,
            "timings": timings, "notes": list(notes), **described,
            "system_info": {"python": platform.python_version(), "platform": platform.platform(),
                            "node": platform.node()},
            "versions": dict(versions()),
        })  # fmt: skip
        (self.path / "logs/config.yaml").write_text(as_yaml(options), encoding="utf-8")
        lines = [f"{name:<12} {value:10.3f} s" for name, value in timings.items()]
        stamp = time.strftime("%Y-%m-%d %H:%M:%S UTC", self.started.timetuple())
        (self.path / "logs/timings.txt").write_text("\n".join([f"run of {stamp}", *lines]) + "\n", encoding="utf-8")

    def _json(self, name: str, content: Mapping[str, Any]) -> None:
        (self.path / name).write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")

    def _array(self, name: str, values: xr.DataArray) -> None:
        np.save(self.path / f"kspace/{name}.npy", values.values)

    def _image(self, name: str, values: xr.DataArray, dtype: str = "float32") -> None:
        image = values.astype(dtype).rename(name)
        tiff.write(str(self.path / f"realspace/{name}.tif"), image if image.ndim > 1 else image.expand_dims("row"))
