"""The selective scan of a grid in four orders."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from seqmamba.errors import UserError
from seqmamba.nn.both_ways import scan_both_ways
from seqmamba.nn.config import MixerConfig
from seqmamba.nn.mixer import Mixer, no_recurrent_state, require_added_directions, require_unit_rate
from seqmamba.nn.norm import LayerNorm
from seqmamba.nn.selective import Selection, split_channels
from seqmamba.ops import cross_merge, cross_scan

_KERNEL = 3


class CrossScan(Mixer):
    """SS2D in the gated block of VMamba (Liu et al. 2024, https://arxiv.org/abs/2401.10166, section 4.2).

    The input is projected to two branches. One goes through a depthwise 3 x 3 convolution and SiLU, then
    through four selective scans: over the grid's rows and over its columns, from either end, each with its
    own selection, A and D. Their sum is normalised, gated by the other branch and projected out. The two
    scans of an axis are one bidirectional scan, and the column order is the only copy made.

    The sequence is the grid row by row, of ``config.grid.width`` columns and any number of rows: in a
    spectrogram a row is a moment and a column a frequency. Several grids may be packed end to end, or a grid
    padded below its last row, by a ``reset`` at the first cell of a row; nothing crosses that border, not
    through the convolution either.

    Args:
        config: Sizes and initialisation; ``grid.width`` must be set, and ``d_conv`` is not read.

    Raises:
        UserError: If ``config.grid.width`` is not set, or ``config.combine`` is not ``add``.
    """

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        if config.grid.width is None:
            raise UserError("grid.width: mixer cross_scan needs the number of the grid's columns, got None")
        require_added_directions(config.combine, "cross_scan")
        self.width = config.grid.width
        self.impl = config.scan_impl
        dim = config.d_inner
        self.in_proj = nn.Linear(config.d_model, 2 * dim, bias=config.bias)
        self.conv2d = nn.Conv2d(dim, dim, _KERNEL, padding=_KERNEL // 2, groups=dim, bias=config.conv_bias)
        self.rows_fwd = Selection(config)
        self.rows_rev = Selection(config)
        self.columns_fwd = Selection(config)
        self.columns_rev = Selection(config)
        self.out_norm = LayerNorm(dim)
        self.out_proj = nn.Linear(dim, config.d_model, bias=config.bias)

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        *,
        reset: Bool[Tensor, "batch length"] | None = None,
        state: None = None,
        return_state: bool = False,
        rate: float = 1.0,
    ) -> tuple[Float[Tensor, "batch length dim"], None]:
        """Mix over the grid; see `Mixer.forward`.

        Raises:
            UserError: If the length is not that of whole rows, or a state is given or asked for.
        """
        if state is not None or return_state:
            raise no_recurrent_state()
        require_unit_rate(rate, "cross_scan")
        if x.shape[1] % self.width:
            raise UserError(
                f"x: expected whole rows of grid.width={self.width} positions, got a length of {x.shape[1]}"
            )
        inner, z = split_channels(self.in_proj(x), 2)
        rows, columns = cross_scan(F.silu(self._convolve(inner, reset)), self.width, reset=reset)
        y_rows = self._scan(self.rows_fwd, self.rows_rev, rows, reset)
        y_columns = self._scan(self.columns_fwd, self.columns_rev, columns, reset)
        y = self.out_norm(cross_merge(y_rows, y_columns, self.width, reset=reset), dtype=z.dtype)
        return self.out_proj(y * F.silu(z)), None

    def _scan(self, forward: Selection, reverse: Selection, u: Tensor, reset: Tensor | None) -> Tensor:
        return scan_both_ways(forward.operands(u), reverse.operands(u), None, reset, self.impl)

    def _convolve(self, x: Tensor, reset: Tensor | None) -> Tensor:
        """Convolve each grid with zeros around it."""
        grid = x.unflatten(1, (-1, self.width)).permute(0, 3, 1, 2)
        y = self.conv2d(grid) if reset is None else self._convolve_apart(grid, reset[:, :: self.width])
        return y.permute(0, 2, 3, 1).flatten(1, 2)

    def _convolve_apart(self, grid: Tensor, starts: Tensor) -> Tensor:
        """Convolve with one row of the kernel at a time, and drop what would come from another grid.

        Args:
            grid: (batch, dim, rows, columns).
            starts: (batch, rows) bool, true at the first row of a grid.
        """
        above, middle, below = self.conv2d.weight.split(1, dim=2)
        border = starts[:, None, 1:, None]  # between a row and the next

        def along_rows(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            return F.conv2d(x, weight, bias, padding=(0, _KERNEL // 2), groups=x.shape[1])

        from_above = along_rows(grid, above)[:, :, :-1].masked_fill(border, 0)
        from_below = along_rows(grid, below)[:, :, 1:].masked_fill(border, 0)
        y = along_rows(grid, middle, self.conv2d.bias)
        return y + F.pad(from_above, (0, 0, 1, 0)) + F.pad(from_below, (0, 0, 0, 1))
