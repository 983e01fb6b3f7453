"""Patches of maps against a loop that cuts them out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from seqmamba.backbones import Backbone, BackboneConfig
from seqmamba.errors import UserError
from seqmamba.nn import GridOptions, PatchEmbedding, Patches, pool

DIM, WIDTH = 5, 10


def make(rows: int = 6, *, patch: Any = (4, 3), **options: Any) -> PatchEmbedding:
    torch.manual_seed(0)
    embed = PatchEmbedding(DIM, options.pop("width", WIDTH), rows, patch=patch, **options).double()
    for table in (embed.row_embedding, embed.column_embedding):
        torch.nn.init.normal_(table)
    return embed


def maps(height: int, batch: int = 2, channels: int = 1, width: int = WIDTH) -> Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.randn(batch, channels, height, width, dtype=torch.float64, generator=generator)


def cut_out(embed: PatchEmbedding, x: Tensor, place: Any) -> Tensor:
    """Embed every patch by itself; ``place(r)`` is the vector of a row."""
    (tall, wide), (down, right) = embed.patch, embed.stride
    height, width = x.shape[2:]
    big = torch.zeros(*x.shape[:2], height + 2 * tall, width + 2 * wide, dtype=x.dtype)
    big[:, :, :height, :width] = x
    weight = embed.proj.weight.flatten(1)
    patches = []
    row = 0
    while row == 0 or (row - 1) * down + tall < height:
        column = 0
        while column == 0 or (column - 1) * right + wide < width:
            cut = big[:, :, row * down : row * down + tall, column * right : column * right + wide]
            vector = cut.flatten(1) @ weight.T + embed.proj.bias
            patches.append(vector + place(row) + embed.column_embedding[column])
            column += 1
        row += 1
    return torch.stack(patches, dim=1)


@pytest.mark.parametrize("stride", [None, (4, 2), (1, 1), (3, 3)])
@pytest.mark.parametrize("height", [1, 4, 5, 9])
def test_every_patch_is_cut_out_and_placed(height: int, stride: tuple[int, int] | None) -> None:
    embed = make(stride=stride, channels=2)
    x = maps(height, channels=2)
    got = embed(x)
    torch.testing.assert_close(got.x, cut_out(embed, x, lambda r: embed.row_embedding[r]))
    assert (got.lengths, got.reset, got.token) == (None, None, None)


def test_the_channel_axis_of_one_channel_may_be_left_out() -> None:
    embed, x = make(), maps(9)
    assert torch.equal(embed(x[:, 0]).x, embed(x).x)


def test_a_map_higher_than_the_table_stretches_it() -> None:
    embed = make(rows=3, patch=(2, 3))
    x = maps(10)  # five rows of patches: the table's three vectors and the two halfway between
    table = embed.row_embedding

    def place(row: int) -> Tensor:
        return table[row // 2] if row % 2 == 0 else (table[row // 2] + table[row // 2 + 1]) / 2

    torch.testing.assert_close(embed(x).x, cut_out(embed, x, place))
    one_row = make(rows=1, patch=(2, 3))
    torch.testing.assert_close(one_row(x).x, cut_out(one_row, x, lambda row: one_row.row_embedding[0]))


@pytest.mark.parametrize("rows", [2, 9])
@pytest.mark.parametrize("class_token", ["none", "front", "middle", "end"])
def test_a_padded_batch_equals_separate_maps(class_token: Any, rows: int) -> None:
    embed = make(rows, class_token=class_token, stride=(3, 3))
    heights = torch.tensor([7, 15, 1, 4])
    padded = torch.full((4, 1, 15, WIDTH), torch.nan, dtype=torch.float64)
    for row, height in zip(padded, heights, strict=True):
        row[:, :height] = maps(int(height), batch=1)[0]
    got = embed(padded, heights)
    assert got.lengths is not None
    assert got.reset is not None
    assert torch.equal(embed.rows(heights), torch.tensor([2, 5, 1, 1]))
    for i, height in enumerate(heights):
        alone = embed(maps(int(height), batch=1))
        length = alone.x.shape[1]
        assert got.lengths[i] == length
        torch.testing.assert_close(got.x[i, :length], alone.x[0])
        assert got.reset[i].nonzero().flatten().tolist() == ([length] if length < got.x.shape[1] else [])
        if got.token is not None and alone.token is not None:
            assert got.token[i] == alone.token[0]
    assert got.x.isfinite().all()


@pytest.mark.parametrize(("class_token", "position"), [("front", 0), ("middle", 6), ("end", 12)])
def test_the_class_token_goes_between_the_patches(class_token: Any, position: int) -> None:
    embed, without = make(class_token=class_token), make()
    without.load_state_dict({k: v for k, v in embed.state_dict().items() if k != "class_token"})
    got, patches = embed(maps(9)), without(maps(9)).x
    assert got.token is not None
    assert got.token.tolist() == [position, position]
    assert embed.class_token is not None
    torch.testing.assert_close(got.x[:, position], embed.class_token.expand(2, -1))
    rest = torch.cat((got.x[:, :position], got.x[:, position + 1 :]), dim=1)
    assert torch.equal(rest, patches)


def test_gradients() -> None:
    embed = make(rows=2, stride=(2, 3), class_token="middle")
    leaves = [maps(7), *embed.parameters()]
    names = [name for name, _ in embed.named_parameters()]

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(embed, state, (x, torch.tensor([7, 3]))).x

    torch.autograd.gradcheck(run, [leaf.detach().requires_grad_() for leaf in leaves])


def test_tables_get_no_weight_decay() -> None:
    embed = make(class_token="front")
    exempt = {name for name, p in embed.named_parameters() if getattr(p, "_no_weight_decay", False)}
    assert exempt == {"row_embedding", "column_embedding", "class_token"}


@pytest.mark.parametrize(
    ("mixer", "class_token"), [("cross_scan", "none"), ("vision_mamba", "middle"), ("mamba", "front")]
)
def test_padding_never_matters_to_a_spectrogram_model(mixer: str, class_token: Any) -> None:
    torch.manual_seed(0)
    embed = PatchEmbedding(8, 32, 4, patch=(4, 8), class_token=class_token)
    grid = GridOptions(embed.columns)
    backbone = Backbone(BackboneConfig(8, 2, mixer=mixer, direction="bidirectional", d_state=4, grid=grid))

    def describe(patches: Patches) -> Tensor:
        return pool(backbone(patches.x, reset=patches.reset), patches.lengths, "mean")

    lengths = torch.tensor([40, 13, 24])
    x = torch.randn(3, 40, 32)
    together = describe(embed(x, lengths))
    for i, length in enumerate(lengths):
        torch.testing.assert_close(together[i], describe(embed(x[i : i + 1, :length]))[0])


def test_compiled_whole() -> None:
    embed = make(class_token="middle").float()
    x, lengths = maps(9)[:, 0].float(), torch.tensor([9, 5])
    compiled = torch.compile(embed, fullgraph=True, backend="aot_eager")
    for got, expected in zip(compiled(x, lengths), embed(x, lengths), strict=True):
        torch.testing.assert_close(got, expected)


def test_mistakes_are_named() -> None:
    embed, x = make(), maps(9)
    for call, message in (
        (
            lambda: embed(x[..., 1:]),
            r"expected floating \(batch, 1, height >= 1, 10\) without or with its second axis, "
            r"got torch.float64 \(2, 1, 9, 9\)",
        ),
        (lambda: make(channels=2)(x), r"expected floating \(batch, 2, height >= 1, 10\), got"),
        (lambda: embed(x[:, :, :0]), "height >= 1"),
        (lambda: embed(x.long()), "expected floating"),
        (
            lambda: embed(x, torch.tensor([9])),
            r"lengths: expected whole numbers \(2,\), got torch.int64 \(1,\)",
        ),
        (lambda: embed(x, torch.tensor([9.0, 8.0])), "lengths: expected whole numbers"),
        (lambda: make(patch=(4,)), "patch: expected two whole numbers >= 1, got"),
        (lambda: make(stride=(5, 3)), r"stride: expected at most the patch, \(4, 3\), got \(5, 3\)"),
        (lambda: make(rows=0), "rows: expected a whole number >= 1, got 0"),
        (lambda: make(class_token="mid"), "class_token: expected one of none, front, middle, end"),
    ):
        with pytest.raises(UserError, match=message):
            call()
