"""Classifiers that begin with another model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from waveform_models import small_model

import seqmamba
from audio.code_stem import CodeStemConfig
from audio.filterbank import FilterbankConfig
from audio.finetuning import build_model, read_encoder
from audio.frame_targets import FrameTargetConfig
from audio.masked_model import MaskedWaveformModel, MaskedWaveformModelConfig
from audio.models import WaveformClassifier, WaveformClassifierConfig
from audio.stems import StridedStemConfig
from seqmamba.backbones import Backbone, BackboneConfig
from seqmamba.errors import UserError
from seqmamba.nn.lora import merge_lora
from seqmamba.nn.pooling import mean_pool
from seqmamba.training.finetuning import InitConfig
from seqmamba.training.optimisation import parameter_groups

BACKBONE = BackboneConfig(d_model=16, n_layers=3, d_state=4, direction="bidirectional", scan_impl="chunked")
TASK = WaveformClassifierConfig(
    BackboneConfig(d_model=8, n_layers=1, direction="bidirectional", scan_impl="chunked"),
    classes=("a", "b"),
    rate=4000,
    pooling="mean",
)
STEMS = {
    "strided": StridedStemConfig((16, 4), (4, 2), (8,)),
    "filterbank": FilterbankConfig(6, 32, 4, 2, widths=(4,), pools=((1, 2),)),
}
LENGTHS = torch.tensor([400, 250, 90])


def waveforms() -> torch.Tensor:
    x = 0.1 * torch.randn(3, 400, 1, generator=torch.Generator().manual_seed(0))
    return x.masked_fill((torch.arange(400) >= LENGTHS[:, None])[..., None], 0)


def masked(folder: Path, stem: str = "strided", **options: object) -> str:
    torch.manual_seed(1)
    config = MaskedWaveformModelConfig(
        BACKBONE,
        STEMS[stem],
        FrameTargetConfig(codes=8),
        rate=4000,
        **options,  # type: ignore[arg-type]
    )
    model = MaskedWaveformModel(config).train()
    with torch.no_grad():  # their initial values would hide that they are not taken over
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if "norm" in name and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    model.save_pretrained(folder / "masked")
    return str(folder / "masked")


def begun(
    folder: str, config: WaveformClassifierConfig = TASK, lr: float = 1e-3, **options: object
) -> WaveformClassifier:
    return build_model(config, InitConfig(folder, **options), lr).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("stem", STEMS)
def test_hidden_states_are_those_of_the_masked_model(tmp_path: Path, stem: str) -> None:
    folder = masked(tmp_path, stem)
    pretrained = seqmamba.from_pretrained(folder)
    assert isinstance(pretrained, MaskedWaveformModel)
    model = begun(folder)
    assert model.config.stem == STEMS[stem]
    hidden = model.hidden(waveforms(), LENGTHS)
    guesses = pretrained.head(hidden.x)
    frames = pretrained.frame_lengths(LENGTHS)
    inside = torch.arange(guesses.shape[1]) < frames[:, None]
    torch.testing.assert_close(guesses[inside], pretrained(waveforms(), LENGTHS)[inside])


@pytest.mark.parametrize("kind", ["s4 outside, mamba inside", "one width"])
@pytest.mark.parametrize("classes", [(), ("x", "y")])
def test_hidden_states_are_those_of_the_generative_model(
    tmp_path: Path, kind: str, classes: tuple[str, ...]
) -> None:
    generator = small_model(kind, classes=classes, rate=4000)
    generator.save_pretrained(tmp_path)
    model = begun(str(tmp_path))
    assert model.config.stem == CodeStemConfig(8, "mu_law")
    hidden = model.hidden(waveforms(), LENGTHS)
    codes = generator.encode(waveforms())
    torch.testing.assert_close(generator.network.logits(hidden.x)[:1], generator(codes)[:1])
    # pooled over true samples only
    torch.testing.assert_close(
        model.embed(waveforms(), LENGTHS), mean_pool(hidden.x, LENGTHS), rtol=1e-5, atol=1e-6
    )
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model(waveforms()[row : row + 1, :length])
        torch.testing.assert_close(alone[0], model(waveforms(), LENGTHS)[row], rtol=1e-4, atol=1e-5)


def test_another_task_s_classifier_gives_its_stem_too(tmp_path: Path) -> None:
    torch.manual_seed(3)
    other = WaveformClassifier(
        replace(TASK, backbone=BACKBONE, stem=STEMS["strided"], classes=("x", "y", "z"))
    )
    other.save_pretrained(tmp_path)
    model = begun(str(tmp_path))
    assert model.config.classes == ("a", "b")
    assert torch.equal(model.embed(waveforms(), LENGTHS), other.eval().embed(waveforms(), LENGTHS))


def test_what_shapes_no_weight_stays_the_recipe_s(tmp_path: Path) -> None:
    wanted = replace(TASK, backbone=replace(TASK.backbone, dropout=0.25))  # type: ignore[type-var]
    assert begun(masked(tmp_path), wanted).config.backbone == replace(BACKBONE, dropout=0.25)


def trained_names(model: nn.Module) -> set[str]:
    """Names of what a step of training changes."""
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # the first step of a low-rank update moves one of its factors only
        optimiser.zero_grad()
        model.train()(waveforms(), LENGTHS).square().sum().backward()
        optimiser.step()
    return {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}


def test_a_gradient_reaches_only_what_is_not_frozen(tmp_path: Path) -> None:
    folder = masked(tmp_path)
    assert trained_names(begun(folder, freeze=True)) == {"head.linear.weight", "head.linear.bias"}
    low_rank = trained_names(begun(folder, lora_rank=2))
    assert all(name.startswith("head") or name.endswith((".up", ".down")) for name in low_rank)
    assert any(name.endswith(".up") for name in low_rank)
    everything = begun(folder)
    assert trained_names(everything) == {name for name, _ in everything.named_parameters()}


@pytest.mark.parametrize("options", [{"freeze": True}, {"lora_rank": 2}])
def test_a_frozen_stem_keeps_the_statistics_of_its_norms(tmp_path: Path, options: dict[str, object]) -> None:
    model = begun(masked(tmp_path, "filterbank"), **options)
    before = {name: tensor.clone() for name, tensor in model.stem.state_dict().items()}
    expected = model.stem(waveforms(), LENGTHS).x
    trained_names(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.stem.state_dict().items())
    torch.testing.assert_close(model.train().stem(waveforms(), LENGTHS).x, expected)


def test_rates_fall_from_the_head_to_the_stem(tmp_path: Path) -> None:
    model = begun(masked(tmp_path), lr=1e-2, lr_decay=0.5)
    rates = {}
    for group in parameter_groups(model, 0.1, lr=1e-2):
        rates |= {id(parameter): group.get("lr", 1e-2) for parameter in group["params"]}
    depth = {"head": 0, "backbone.norm_f": 0, "stem": 4} | {f"backbone.layers.{i}.": 3 - i for i in range(3)}
    for name, parameter in model.named_parameters():
        expected = next(1e-2 * 0.5**d for prefix, d in depth.items() if name.startswith(prefix))
        assert rates[id(parameter)] == pytest.approx(expected), name


def test_in_a_u_shape_rates_fall_against_the_way_of_a_position(tmp_path: Path) -> None:
    small_model("mamba on both sides", rate=4000).save_pretrained(tmp_path)  # one block a stage
    model = begun(str(tmp_path), lr=1.0, lr_decay=0.5)
    way = ["stem", "down.0", "down_pools.0", "down.1", "down_pools.1", "centre"]
    way += ["up_pools.1", "up.1", "up_pools.0", "up.0"]
    for name, parameter in model.named_parameters():
        place = [i for i, part in enumerate(way) if name.startswith((part, f"backbone.{part}."))]
        if name.startswith("head") or "norm_f" in name:
            assert not hasattr(parameter, "_max_lr")
        else:
            assert parameter._max_lr == 0.5 ** (len(way) - place[0]), name


def test_low_rank_updates_merge_into_the_exported_model(tmp_path: Path) -> None:
    model = begun(masked(tmp_path), lora_rank=2)
    for name, parameter in model.named_parameters():
        if name.endswith(".up"):
            nn.init.normal_(parameter, std=0.1)
    merge_lora(model).save_pretrained(tmp_path / "tuned")
    again = WaveformClassifier.from_pretrained(tmp_path / "tuned")
    torch.testing.assert_close(again(waveforms(), LENGTHS), model(waveforms(), LENGTHS), rtol=1e-4, atol=1e-5)


def test_refuses_models_that_do_not_fit(tmp_path: Path) -> None:
    folder = masked(tmp_path)
    with pytest.raises(UserError, match=r"rate: expected 4000 Hz, which the model in .* reads, got 8000 Hz"):
        begun(folder, replace(TASK, rate=8000))
    with pytest.raises(UserError, match=r"channels: expected 1, which the model in .* reads, got 2"):
        begun(folder, replace(TASK, channels=2))
    Backbone(BACKBONE).save_pretrained(tmp_path / "features")
    with pytest.raises(UserError, match="is a Backbone, expected one that reads waveforms"):
        read_encoder(str(tmp_path / "features"))
    small_model("wavenet").save_pretrained(tmp_path / "wavenet")
    with pytest.raises(UserError, match="is a WaveNet, which is no backbone"):
        read_encoder(str(tmp_path / "wavenet"))


def test_refuses_weights_of_another_stem(tmp_path: Path) -> None:
    model = build_model(replace(TASK, backbone=BACKBONE, stem=StridedStemConfig((8,), (8,), ())), None, 1e-3)
    with pytest.raises(UserError, match=r"masked: the weights (lack|have unknown) stem"):
        read_encoder(masked(tmp_path)).load_into(model)
    wider = build_model(
        replace(TASK, backbone=BACKBONE, stem=StridedStemConfig((20, 4), (4, 2), (8,))), None, 1e-3
    )
    with pytest.raises(UserError, match=r"size mismatch for stem.convs.0.weight: expected .*, got"):
        read_encoder(masked(tmp_path)).load_into(wider)
