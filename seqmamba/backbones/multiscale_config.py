"""The options of a multi-scale backbone."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace
from itertools import accumulate
from typing import Any, Literal

from seqmamba.backbones.config import BackboneConfig
from seqmamba.errors import UserError
from seqmamba.nn.config import Direction
from seqmamba.nn.options import is_whole, require, require_choice, require_whole

Pattern = tuple[str, ...] | str


@dataclass(frozen=True)
class MultiScaleConfig:
    """Stages of blocks at coarser and coarser resolution, and back. Every value can be written to JSON.

    SaShiMi (arXiv:2202.09729, section 4.2) with 8 layers; the Mamba paper's model of speech (Gu & Dao 2023,
    arXiv:2312.00752, table 5); and its model of music, linear and time-invariant outside (appendix E.4.1)::

        MultiScaleConfig(BackboneConfig(64, 8, mixer="s4+mlp", norm="layer"))
        MultiScaleConfig(BackboneConfig(64, 8, mixer="mamba"), sides="both")
        MultiScaleConfig(BackboneConfig(64, 8, mixer="s4"), sides="both", inner_mixers=("s4", "mamba"))

    Args:
        outer: The outermost stage. All other stages have its options, except for those below.
        pool: Positions of a frame on the way from each stage to the next; one stage more than factors, and
            the last one is the centre.
        widen: The channels grow by this factor from each stage to the next.
        inner_layers: Blocks of each stage but the outermost; ``None`` means as many as there.
        inner_mixers: Mixer or pattern of each stage but the outermost; ``None`` means the same as there.
        sides: Whether the stages outside the centre have blocks on the way ``up`` only (SaShiMi), or as many
            again on the way down: ``both`` (a U-Net; better likelihoods, half the speed).

    Raises:
        UserError: If a field is out of range.
    """

    outer: BackboneConfig
    _: KW_ONLY
    pool: tuple[int, ...] = (4, 4)
    widen: int = 2
    inner_layers: tuple[int, ...] | None = None
    inner_mixers: tuple[Pattern, ...] | None = None
    sides: Literal["up", "both"] = "up"

    def __post_init__(self) -> None:
        require(isinstance(self.outer, BackboneConfig), "outer", "a BackboneConfig", self.outer)
        for name in ("pool", "inner_layers", "inner_mixers"):
            value: Any = getattr(self, name)
            if isinstance(value, list):  # JSON and YAML have lists, which are not hashable
                object.__setattr__(self, name, tuple(value))
        factors = isinstance(self.pool, tuple) and len(self.pool) > 0
        factors = factors and all(is_whole(factor, 2) for factor in self.pool)
        require(factors, "pool", "one whole number >= 2 or more", self.pool)
        require_whole("widen", self.widen)
        require_choice("sides", self.sides, ("up", "both"))
        for name in ("inner_layers", "inner_mixers"):
            self._require_one_each(name, getattr(self, name))
        width = self.outer.grid.width
        require(width is None, "outer.grid.width", "null: coarser stages have no such grid", width)
        if self.inner_mixers is not None:
            patterns: tuple[Any, ...] = self.inner_mixers
            patterns = tuple(tuple(p) if isinstance(p, list) else p for p in patterns)
            object.__setattr__(self, "inner_mixers", patterns)
        for index in range(1, self.n_stages):
            try:
                self.stage(index)
            except UserError as error:
                raise UserError(f"stage {index}: {error.message}", hint=error.hint) from error

    def _require_one_each(self, name: str, values: Any) -> None:
        if values is not None:
            expected = f"null or {len(self.pool)} entries, as many as pool has"
            require(isinstance(values, tuple) and len(values) == len(self.pool), name, expected, values)

    def stage(self, index: int) -> BackboneConfig:
        """Return the options of a stage's blocks, on one side.

        Args:
            index: From 0, the outermost, to ``n_stages - 1``, the centre.
        """
        if index == 0:
            return self.outer
        return replace(
            self.outer,
            d_model=self.outer.d_model * self.widen**index,
            n_layers=self.outer.n_layers if self.inner_layers is None else self.inner_layers[index - 1],
            mixer=self.outer.mixer if self.inner_mixers is None else self.inner_mixers[index - 1],
        )

    @property
    def n_stages(self) -> int:
        """Resolutions, the centre's included."""
        return len(self.pool) + 1

    @property
    def d_model(self) -> int:
        """Channels of the input and the output."""
        return self.outer.d_model

    @property
    def direction(self) -> Direction:
        """``causal`` or ``bidirectional``."""
        return self.outer.direction

    @property
    def period(self) -> int:
        """Positions after which the same stages run again when stepping: the product of the factors."""
        return math.prod(self.pool)

    @property
    def blocks_per_position(self) -> float:
        """Blocks that run for one position, on average: what generation costs.

        Stage k runs once every ``pool[0] * ... * pool[k - 1]`` positions, so with n layers in each stage it
        is ``n * (1 + 1/p + 1/p^2)`` for two factors p: 10.5 for n = 8, p = 4. With both sides the stages
        outside the centre count twice: 20.5.
        """
        strides = accumulate(self.pool, lambda stride, factor: stride * factor, initial=1)
        counts = [self.stage(index).n_layers for index in range(self.n_stages)]
        if self.sides == "both":
            counts[:-1] = [2 * count for count in counts[:-1]]
        return sum(count / stride for count, stride in zip(counts, strides, strict=True))
