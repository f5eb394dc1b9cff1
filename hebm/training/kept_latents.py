"""Pack posterior draws and negatives into rows of tensors. Only what energies and objectives read is stored.

| read | stored |
|---|---|
| latents | u and the context; z and σ are recomputed by T(u) |
| u | u and the context; z and σ become NaN |
| image | E[x|z] as 8-bit pixels |
| a feature of the decoder | the feature |
| posterior | log q, KL, log r, the means and q_u, if the backbone provides them |
| q_u | q_u alone, if the backbone provides it |
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from torch import Tensor, nn

from hebm.errors import NonFiniteError
from hebm.interfaces import Backbone, Stage
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.normals import Normal
from hebm.pixel_levels import from_pixels, to_pixels
from hebm.store.rows import Column
from hebm.tilts import LATENTS, sees_latents, sees_of, shown

IMAGE, POSTERIOR, U, Q_U = "image", "posterior", "u", "q_u"
_FIELDS = ("log_q", "kl", "log_r")


@attrs.frozen
class Kept:
    """Packs the parts of latents that energies and objectives read.

    Arguments:
        reads: names of the parts: those of `Stage.reads`, and those that energies see (`hebm.tilts.SHOWN`).
    """

    reads: frozenset[str]

    @classmethod
    def of(cls, module: nn.Module, reads: Iterable[str] = ()) -> Kept:
        """Return the selection of what the energies of a module see, plus the parts in `reads`."""
        seen = {*sees_of(module), *reads}
        return cls(frozenset(seen | {LATENTS} if sees_latents(module) else seen))

    @classmethod
    def by(cls, stage: Stage) -> Kept:
        """Return the selection of what a stage's energies see and its objective reads."""
        return cls.of(stage.module, stage.reads)

    @property
    def shown(self) -> tuple[str, ...]:
        """The stored parts that are computed from latents: the decoded image and features of the decoder."""
        return tuple(sorted(self.reads - {LATENTS, POSTERIOR, U, Q_U}))

    # ------------------------------------------------------------ to rows

    def packed(self, backbone: Backbone, posterior: Posterior) -> dict[str, Tensor]:
        """Return the rows of posterior draws by name, `(B, …)` each. Raises `NonFiniteError` for NaN or infinity."""
        rows = self._packed(shown(backbone, posterior.latents, self.shown))
        if POSTERIOR in self.reads:
            rows |= {name: part for name in _FIELDS if (part := getattr(posterior, name)) is not None}
            rows |= {f"mean.{i}": part for i, part in enumerate(posterior.mean or ())}
        if self.reads & {POSTERIOR, Q_U}:
            for i, q in enumerate(posterior.q_u or ()):
                rows |= {
                    f"{Q_U}.{name}.{i}": part.expand_as(posterior.latents.z[i]) for name, part in q._asdict().items()
                }
        for name, part in rows.items():
            if part.is_floating_point() and not bool(part.isfinite().all()):
                raise NonFiniteError(
                    f"cannot store draws whose {name} has NaN or infinite values: their chains diverged; lower "
                    "prior.sampler.step_size"
                )
        return {name: to_pixels(part) if name == IMAGE else part for name, part in rows.items()}

    def _packed(self, latents: Latents) -> dict[str, Tensor]:
        rows: dict[str, Tensor] = {}
        if self.reads & {LATENTS, U}:
            rows["u"] = latents.u
        if latents.context is not None:
            rows["context"] = latents.context
        for name in self.shown:
            part = latents.shown[name]
            rows |= {name: part} if isinstance(part, Tensor) else {f"{name}.{i}": one for i, one in enumerate(part)}
        return rows

    # ------------------------------------------------------------ from rows

    def unpacked(self, backbone: Backbone, rows: Mapping[str, Tensor], like: Tensor) -> Posterior:
        """Return draws from rows, with the type and device of `like`. Parts that were not stored are NaN or None."""
        moved = {name: part.to(like.device) if name == IMAGE else part.to(like) for name, part in rows.items()}
        context, count = moved.get("context"), len(next(iter(moved.values())))
        seen: dict[str, Any] = {name: moved.get(name, _several(moved, name)) for name in self.shown}
        if IMAGE in seen:
            seen[IMAGE] = from_pixels(seen[IMAGE], like)
        if LATENTS in self.reads:
            at = backbone.latents(moved["u"], context)
        else:
            at = unknown(backbone.layout, count, like)
        latents = Latents(moved.get("u", at.u), at.z, at.sigma, context, at.carried, seen)
        log_q, kl, log_r = (moved.get(name) for name in _FIELDS)
        q_u = tuple(map(Normal, *(_several(moved, f"{Q_U}.{name}") for name in Normal._fields)))
        return Posterior(latents, log_q, kl, log_r, _several(moved, "mean") or None, q_u or None)


def unknown(layout: LatentLayout, rows: int, like: Tensor) -> Latents:
    """Return latents whose u, z and σ are NaN, as expanded views that take the memory of one number."""
    nan = like.new_full((1, 1), math.nan)
    z = tuple(nan.view(1, *[1] * len(shape)).expand(rows, *shape) for shape in layout.shapes)
    return Latents(nan.expand(rows, layout.dim), z, z)


def columns_of(rows: Mapping[str, Tensor]) -> dict[str, Column]:
    """Return the shape and type of each row's tensors, as the columns of a table."""
    return {name: Column(tuple(part.shape[1:]), part.dtype) for name, part in rows.items()}


def _several(rows: Mapping[str, Tensor], name: str) -> tuple[Tensor, ...]:
    """Return the tensors `name.0`, `name.1`, … in order."""
    count = sum(key.startswith(f"{name}.") for key in rows)
    return tuple(rows[f"{name}.{i}"] for i in range(count))
