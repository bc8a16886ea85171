"""Pass B as columns: the weights that frames are multiplied with, and the maps made of the products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanfold.detectors.frames import Array, beam_radius, radius_map
from scanfold.detectors.gates import clipped_ring, slopes
from scanfold.detectors.moments import centre_of_mass, corrected, shot_noise

#: The disc about the beam reaches this many times its own radius.
DISC = 1.25


@dataclass(frozen=True)
class Layout:
    """What the columns of pass B are: of signal, of counts, and of the finished maps."""

    clusters: int
    adaptive: bool
    residual: bool
    descan: bool

    @property
    def detectors(self) -> list[str]:
        """Names of the detectors."""
        more = ["adaptive", "adaptive_response"] if self.adaptive else []
        return ["ungated", "disc", "union", "union_response", *more]

    @property
    def counts(self) -> int:
        """Columns of the counts: ungated and disc 5, the union 8, each gate 3."""
        return 18 + 3 * self.clusters

    @property
    def parts(self) -> dict[str, slice]:
        """Columns of each finished variable."""
        n, c = len(self.detectors), self.clusters
        widths = {"score": c, "total": n, "com_y": n, "com_x": n, "com_y_stderr": n, "com_x_stderr": n,
                  "gate_total": c, "gate_com_y": c, "gate_com_x": c, "frame_valid": 1,
                  "residual": int(self.residual)}  # fmt: skip
        parts, first = {}, 0
        for name, width in widths.items():
            parts[name] = slice(first, first + width)
            first += width
        return {name: part for name, part in parts.items() if part.stop > part.start}

    @property
    def cuts(self) -> dict[str, int | slice]:
        """Columns of each finished variable as they are cut out: one number, or a row of them."""
        single = ("frame_valid", "residual")
        return {name: part.start if name in single else part for name, part in self.parts.items()}

    @property
    def width(self) -> int:
        """Number of finished columns."""
        return max(int(part.stop) for part in self.parts.values())


@dataclass(frozen=True)
class SignalColumns:
    """Makes the weights of the preprocessed signal, in units of the deviation if `diag`."""

    diag: bool
    residual: bool

    def __call__(self, template: Array, scale: Array, used: Array, mean: Array) -> Array:
        """Return the columns (ky, kx, C) of the matched filter; then mean and weights of the residual."""
        used = used.astype(bool)
        weights = np.moveaxis(np.where(used, template / (scale if self.diag else 1.0), 0.0), 0, -1)
        if not self.residual:
            return np.ascontiguousarray(weights)
        squares = np.where(used, 1.0 / scale**2, 0.0) / max(used.sum(), 1)
        return np.concatenate([weights, np.where(used, mean, 0.0)[..., None], squares[..., None]], axis=-1)


@dataclass(frozen=True)
class CountColumns:
    """Makes the weights of the counts: gates cut by the ring `roi`, and the radii of the disc."""

    roi: tuple[float, float]
    disc: tuple[float, float] | None

    def __call__(self, gate: Array, valid: Array, center: Array, mean: Array) -> Array:
        """Return the columns (ky, kx, n) of moments: ungated 5, disc 5, union 8, each gate 3."""
        valid = valid.astype(bool)
        limits = clipped_ring(self.roi, valid.shape, center)
        radius = radius_map(valid.shape, center)
        ring = valid & (radius >= limits[0]) & (radius <= limits[1])
        inner, outer = self.disc or (-1.0, DISC * beam_radius(mean, valid))
        disc = valid & (radius > inner) & (radius <= outer)
        gate = gate * ring
        union = gate.max(axis=0)
        ky, kx = (np.arange(n) - c for n, c in zip(valid.shape, center, strict=True))
        one, ky, kx = np.ones(valid.shape), np.broadcast_to(ky[:, None], valid.shape), np.broadcast_to(kx, valid.shape)
        five, three = [one, ky, kx, ky**2, kx**2], [one, ky, kx]
        columns = [valid * k for k in five] + [disc * k for k in five]
        columns += [union * k for k in three] + [union**2 * k for k in five] + [g * k for g in gate for k in three]
        return np.stack(columns, axis=-1)


def constants_of(
    signal: Array, mean: Array, used: Array, counts: Array, mean_counts: Array, valid: Array, template: Array
) -> Array:
    """Return one row for each gate and one for the union: score offset, centre of the mean pattern, response, T Tᵀ."""
    clusters = len(template)
    out = np.zeros((clusters + 1, 8 + clusters))
    offsets = np.where(used.astype(bool), mean, 0.0).ravel() @ signal.reshape(-1, signal.shape[-1])[
        :, :clusters
    ].astype(float)
    out[:clusters, 0] = offsets
    pattern = np.where(valid.astype(bool) & np.isfinite(mean_counts), mean_counts, 0.0)
    firsts = [*range(18, 18 + 3 * clusters, 3), 10]
    slope = slopes(pattern)
    for row, first in enumerate(firsts):
        gate, *moments = (counts[..., first + i].astype(float) for i in range(3))
        total = (gate * pattern).sum()
        com = centre_of_mass(total, np.array([(m * pattern).sum() for m in moments]))
        out[row, 1:3] = com
        response = [[-((m - c * gate) * s).sum() / total for s in slope] if total > 0 else [np.nan] * 2
                    for m, c in zip(moments, com, strict=True)]  # fmt: skip
        out[row, 3:7] = np.ravel(response)
    out[clusters, 7] = used.sum()
    flat = template.reshape(clusters, -1)
    out[:clusters, 8:] = np.linalg.pinv(flat @ flat.T, hermitian=True)
    return out


@dataclass(frozen=True)
class BlockMaps:
    """Make maps from the sums of each frame (N, n), constants (N, C + 1, 8 + C), gate numbers (N,), descan (N, 2).

    `steps` is the size of a pixel along ``ky, kx``.
    """

    layout: Layout
    steps: tuple[float, float]

    def __call__(self, raw: Array, constants: Array, *more: Array) -> Array:
        """Return (N, width)."""
        layout, rest = self.layout, list(more)
        number = rest.pop(0) if layout.adaptive else None
        moved = rest.pop(0) if layout.descan else np.zeros((len(raw), 2))
        out = np.full((len(raw), layout.width), np.nan)
        if not len(raw):
            return out
        finite = np.asarray(np.isfinite(raw).all(axis=1))
        raw = np.where(finite[:, None], raw, np.nan)
        maps = {name: out[:, part] for name, part in layout.parts.items()}
        clusters, known = layout.clusters, constants[0]
        maps["score"][:] = raw[:, :clusters] - known[:clusters, 0]
        counts = raw[:, clusters : clusters + layout.counts]
        each = counts[:, 18:].reshape(len(raw), clusters, 3)
        gate_com = centre_of_mass(each[..., 0], each[..., 1:])
        maps["gate_total"][:] = each[..., 0]
        for place, name in enumerate(("gate_com_y", "gate_com_x")):
            maps[name][:] = gate_com[..., place] - moved[:, place, None]
        for place, (total, com, error) in enumerate(self._detectors(counts, each, gate_com, known, number, moved)):
            maps["total"][:, place] = total
            maps["com_y"][:, place], maps["com_x"][:, place] = (com - moved).T
            maps["com_y_stderr"][:, place], maps["com_x_stderr"][:, place] = error.T
        for along, step in zip("yx", self.steps, strict=True):
            maps[f"com_{along}"] *= step
            maps[f"gate_com_{along}"] *= step
            maps[f"com_{along}_stderr"] *= abs(step)
        maps["frame_valid"][:, 0] = finite & (counts[:, 0] > 0)
        if layout.residual:
            score, inverse = maps["score"], known[:clusters, 8:]
            explained = np.einsum("nc,cd,nd->n", score, inverse, score)
            maps["residual"][:, 0] = raw[:, -1] - explained / known[clusters, 7]
        return out

    def _detectors(
        self, counts: Array, each: Array, gate_com: Array, known: Array, number: Array | None, moved: Array
    ) -> list[tuple[Array, Array, Array]]:
        """Return total, centre of mass and its error of each detector, in the layout's order."""
        found = []
        for five in (counts[:, 0:5], counts[:, 5:10]):
            com = centre_of_mass(five[:, 0], five[:, 1:3])
            found.append((five[:, 0], com, shot_noise(five[:, 0], com, five)))
        total, com = counts[:, 10], centre_of_mass(counts[:, 10], counts[:, 11:13])
        error = shot_noise(total, com, counts[:, 13:18])
        union = known[-1]
        shift, factor = corrected(com - moved, union[1:3], union[3:7].reshape(2, 2))
        found.append((total, com, error))
        found.append((total, shift + moved, np.sqrt(np.einsum("ab,nb->na", factor, error**2))))
        if number is None:
            return found
        rows = np.arange(len(counts))
        own = np.minimum(number, self.layout.clusters - 1)
        without = number == self.layout.clusters
        gated = np.where(without[:, None], com, gate_com[rows, own])
        gated_total = np.where(without, total, each[rows, own, 0])
        row = known[number]
        shift, _ = corrected(gated - moved, row[:, 1:3], row[:, 3:7].reshape(-1, 2, 2))
        unknown = np.full(com.shape, np.nan)
        return [*found, (gated_total, gated, unknown), (gated_total, shift + moved, unknown)]
