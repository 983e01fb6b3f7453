"""Patches of a spectrogram or an image as a sequence."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from seqmamba.errors import UserError
from seqmamba.nn.initialisers import protect
from seqmamba.nn.options import is_whole, require, require_choice, require_whole
from seqmamba.nn.packing import length_mask, reset_from_lengths

ClassToken = Literal["none", "front", "middle", "end"]


_Size = TypeVar("_Size", int, Tensor)


class Patches(NamedTuple):
    """A batch of sequences of patches.

    Attributes:
        x: The patches row by row: patch (r, c) is at position r columns + c, behind a class token one on.
        lengths: True lengths of x, the class token included; ``None`` without padding.
        reset: Mask for the backbone that keeps the padding away; ``None`` without padding.
        token: Position of each class token; ``None`` without one.
    """

    x: Float[Tensor, "batch length dim"]
    lengths: Int[Tensor, " batch"] | None
    reset: Bool[Tensor, "batch length"] | None
    token: Int[Tensor, " batch"] | None


class PatchEmbedding(nn.Module):
    """Cut a map of (height, width), for a spectrogram (time, frequency), into patches and embed each.

    Patches are cut every ``stride`` from the top left corner on, overlapping if that is less than their size,
    until they cover the map; beyond its end it counts as zero. Each is projected to ``d_model`` channels, as
    in ViT (Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929, section 3.1), and two learned vectors
    are added, of its row and of its column. A map of up to ``rows`` rows of patches reads the first vectors
    of the table of rows; a higher one reads the whole table stretched to its height, by linear interpolation.

    Of maps that are padded at the bottom only the true part is read: a padded batch gives the numbers of
    separate maps, whatever the padding holds.

    A class token goes before the patches, behind them or, as in Audio Mamba (Erol et al. 2024,
    https://arxiv.org/abs/2406.03344), into the middle of the true ones. Mixers over a grid want none.

    Args:
        d_model: Channels of a patch.
        width: Width of the map: frequency bins.
        rows: Rows of patches that have a vector of their own.
        patch: Height and width of a patch.
        stride: Steps down and to the right from patch to patch; ``None`` means the patch's size.
        channels: Channels of the map.
        class_token: ``none``, ``front``, ``middle`` or ``end``.

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(
        self,
        d_model: int,
        width: int,
        rows: int,
        *,
        patch: tuple[int, int] = (16, 16),
        stride: tuple[int, int] | None = None,
        channels: int = 1,
        class_token: ClassToken = "none",
    ) -> None:
        super().__init__()
        for name, value in (("d_model", d_model), ("width", width), ("rows", rows), ("channels", channels)):
            require_whole(name, value)
        require_choice("class_token", class_token, ("none", "front", "middle", "end"))
        self.patch, self.stride = _pair("patch", patch), _pair("stride", patch if stride is None else stride)
        closed = all(step <= size for step, size in zip(self.stride, self.patch, strict=True))
        require(closed, "stride", f"at most the patch, {self.patch}", self.stride)
        self.width, self.place = width, class_token
        self.columns = max(1, _to_cover(width, self.patch[1], self.stride[1]))
        self.proj = nn.Conv2d(channels, d_model, self.patch, self.stride)
        self.row_embedding = _learned(rows, d_model)
        self.column_embedding = _learned(self.columns, d_model)
        self.class_token = None if class_token == "none" else _learned(1, d_model)

    def forward(
        self,
        x: Float[Tensor, "batch height width"] | Float[Tensor, "batch channels height width"],
        lengths: Int[Tensor, " batch"] | None = None,
    ) -> Patches:
        """Embed a batch of maps.

        Args:
            x: Maps, padded at the bottom where their heights differ.
            lengths: True heights, each at least 1; ``None`` means no padding.

        Raises:
            UserError: If a shape or dtype does not fit.
        """
        image = x[:, None] if x.ndim == 3 else x
        self._check(image, x, lengths)
        batch, _, height, _ = image.shape
        if lengths is None:
            rows = torch.full((1,), max(1, _to_cover(height, self.patch[0], self.stride[0])), device=x.device)
        else:
            rows = self.rows(lengths)
            image = image.masked_fill(~length_mask(lengths, height)[:, None, :, None], 0)
        embedded = self.proj(self._pad(image))
        places = self._row_places(rows, embedded.shape[2])[:, :, None] + self.column_embedding
        y = embedded.flatten(2).mT + places.flatten(1, 2)
        n_patches = rows * self.columns
        token = None
        if self.class_token is not None:
            halves_before = {"front": 0, "middle": 1, "end": 2}[self.place]
            token = (halves_before * n_patches // 2).expand(batch)
            y = _insert(y, self.class_token, token)
        if lengths is None:
            return Patches(y, None, None, token)
        true_lengths = n_patches if token is None else n_patches + 1
        return Patches(y, true_lengths, reset_from_lengths(true_lengths, y.shape[1]), token)

    def rows(self, lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Return how many rows of patches cover maps of these heights.

        Args:
            lengths: True heights, each at least 1.
        """
        return _to_cover(lengths, self.patch[0], self.stride[0]).clamp(min=1)

    def _pad(self, image: Tensor) -> Tensor:
        """Append zeros up to the end of the last patch."""
        missing = []
        for size, patch, stride in zip(image.shape[2:], self.patch, self.stride, strict=True):
            covered = (max(1, _to_cover(size, patch, stride)) - 1) * stride + patch
            missing.append(covered - size)
        return F.pad(image, (0, missing[1], 0, missing[0]))

    def _row_places(self, rows: Tensor, padded_rows: int) -> Tensor:
        """Read the table of rows: (maps, padded_rows, d_model), for ``rows`` (maps,)."""
        last = len(self.row_embedding) - 1
        stretch = (last / (rows - 1).clamp(min=1)).clamp(max=1)
        at = (torch.arange(padded_rows, device=rows.device) * stretch[:, None]).clamp(max=last)
        below = at.floor().long()
        weight = (at - below)[..., None].to(self.row_embedding.dtype)
        above = (below + 1).clamp(max=last)
        # embedding and not an index, whose gradient on a GPU depends on the order of its atomic sums
        return torch.lerp(
            F.embedding(below, self.row_embedding), F.embedding(above, self.row_embedding), weight
        )

    def _check(self, image: Tensor, x: Tensor, lengths: Tensor | None) -> None:
        channels = self.proj.in_channels
        expected = f"floating (batch, {channels}, height >= 1, {self.width})"
        if channels == 1:
            expected += " without or with its second axis"
        fits = image.ndim == 4 and image.shape[1] == channels and image.shape[3] == self.width
        if not fits or image.shape[2] == 0 or not x.is_floating_point():
            raise UserError(f"x: expected {expected}, got {x.dtype} {tuple(x.shape)}")
        if lengths is None:
            return
        if lengths.shape != x.shape[:1] or lengths.is_floating_point() or lengths.dtype == torch.bool:
            raise UserError(
                f"lengths: expected whole numbers ({len(x)},), got {lengths.dtype} {tuple(lengths.shape)}"
            )


def _to_cover(size: _Size, patch: int, stride: int) -> _Size:
    """Return the patches that cover ``size``; zero or less where one is more than enough."""
    return (size - patch + stride - 1) // stride + 1


def _insert(x: Tensor, vector: Tensor, position: Tensor) -> Tensor:
    """Put a vector (1, dim) into each sequence of (batch, length, dim) at its position (batch,)."""
    at = torch.arange(x.shape[1] + 1, device=x.device) - position[:, None]
    before, behind = F.pad(x, (0, 0, 0, 1)), F.pad(x, (0, 0, 1, 0))
    at = at[..., None]
    return torch.where(at < 0, before, torch.where(at == 0, vector.to(x.dtype), behind))


def _learned(rows: int, dim: int) -> nn.Parameter:
    """Vectors drawn as ViT draws its positions (standard deviation 0.02); they get no weight decay."""
    return protect(nn.Parameter(nn.init.trunc_normal_(torch.empty(rows, dim), std=0.02)))


def _pair(name: str, value: tuple[int, int]) -> tuple[int, int]:
    """Check a pair of whole numbers; YAML and JSON have lists."""
    whole = isinstance(value, tuple | list) and len(value) == 2 and all(map(is_whole, value))
    require(whole, name, "two whole numbers >= 1", value)
    return value[0], value[1]
