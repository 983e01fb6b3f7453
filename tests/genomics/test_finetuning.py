from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from caduceus_reference import published_config, published_weights
from safetensors.torch import save_file
from torch import nn

from genomics.alphabet import PAD, A, N
from genomics.equivariance import reverse_complement_tokens
from genomics.finetuning import build_model, read_encoder
from genomics.masked_model import MaskedModel, MaskedModelConfig
from genomics.models import SequenceModel, SequenceModelConfig
from genomics.segmentation import SegmentationModel, SegmentationModelConfig
from genomics.vocabulary import CADUCEUS, PLANT_CADUCEUS, Vocabulary
from seqmamba import from_pretrained
from seqmamba.backbones import Backbone, BackboneConfig, LanguageModel, LanguageModelConfig
from seqmamba.errors import UserError
from seqmamba.nn.lora import merge_lora
from seqmamba.nn.pooling import mean_pool
from seqmamba.training.finetuning import InitConfig
from seqmamba.training.optimisation import parameter_groups

BACKBONE = BackboneConfig(d_model=16, n_layers=3, d_state=4, direction="bidirectional", scan_impl="chunked")
TASK = SequenceModelConfig(
    BackboneConfig(d_model=8, n_layers=1, direction="bidirectional", scan_impl="chunked"),
    classes=("a", "b"),
    pooling="mean",
    strand="equivariant",
)
LENGTHS = torch.tensor([40, 31, 7])


def tokens(seed: int = 0) -> torch.Tensor:
    """Bases, unknown ones among them, padded behind `LENGTHS`."""
    drawn = torch.randint(A, N + 1, (3, 40), generator=torch.Generator().manual_seed(seed))
    return drawn.masked_fill(torch.arange(40) >= LENGTHS[:, None], PAD)


def saved(model: nn.Module, folder: Path) -> str:
    for name, parameter in model.named_parameters():
        if "norm" in name:  # their initial ones would hide that they are not taken over
            nn.init.normal_(parameter, mean=1.0, std=0.1)
    model.save_pretrained(folder)  # type: ignore[operator]
    return str(folder)


def masked(folder: Path, equivariant: bool = True, vocabulary: Vocabulary = CADUCEUS) -> str:
    torch.manual_seed(1)
    config = MaskedModelConfig(BACKBONE, vocabulary=vocabulary, equivariant=equivariant)
    return saved(MaskedModel(config), folder / "masked")


def begun(
    folder: str, config: SequenceModelConfig = TASK, lr: float = 1e-3, **options: object
) -> SequenceModel:
    init = InitConfig(folder, **options)  # type: ignore[arg-type]
    return build_model(SequenceModel, config, init, lr).eval()


@pytest.mark.parametrize("vocabulary", [CADUCEUS, PLANT_CADUCEUS])
@pytest.mark.parametrize("equivariant", [True, False])
def test_features_are_those_of_the_masked_model(
    tmp_path: Path, equivariant: bool, vocabulary: Vocabulary
) -> None:
    folder = masked(tmp_path, equivariant, vocabulary)
    pretrained = from_pretrained(folder)
    assert isinstance(pretrained, MaskedModel)
    strand = "equivariant" if equivariant else "forward"
    model = begun(folder, replace(TASK, strand=strand))
    own = torch.from_numpy(vocabulary.from_alphabet(tokens().numpy().astype("uint8")))
    expected = pretrained.embed(own, LENGTHS)
    assert torch.allclose(model.embed(tokens(), LENGTHS), expected, rtol=1e-5, atol=1e-6)


def test_features_are_those_of_the_causal_model(tmp_path: Path) -> None:
    torch.manual_seed(2)
    causal = replace(BACKBONE, direction="causal")
    folder = saved(LanguageModel(LanguageModelConfig(causal, vocab_size=12)), tmp_path / "causal")
    pretrained = from_pretrained(folder)
    assert isinstance(pretrained, LanguageModel)
    expected = mean_pool(pretrained.backbone(pretrained.embedding(tokens())), LENGTHS)
    model = begun(folder, replace(TASK, strand="forward"))
    assert torch.allclose(model.embed(tokens(), LENGTHS), expected, rtol=1e-5, atol=1e-6)
    assert model.config.backbone.direction == "causal"


@pytest.mark.parametrize("n_layer", [2, 3])
def test_features_are_those_of_a_published_checkpoint(tmp_path: Path, n_layer: int) -> None:
    config = published_config(n_layer=n_layer)
    weights = published_weights(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(
        {name: tensor.float().clone() for name, tensor in weights.items()}, tmp_path / "model.safetensors"
    )
    pretrained = from_pretrained(tmp_path)
    assert isinstance(pretrained, MaskedModel)
    assert pretrained.config.equivariant
    expected = pretrained.embed(tokens(), LENGTHS)
    assert torch.allclose(begun(str(tmp_path)).embed(tokens(), LENGTHS), expected, rtol=1e-4, atol=1e-5)


def test_models_of_bases_begin_there_too(tmp_path: Path) -> None:
    folder = masked(tmp_path)
    pretrained = from_pretrained(folder)
    assert isinstance(pretrained, MaskedModel)
    config = SegmentationModelConfig(TASK.backbone, strand="equivariant")
    model = build_model(SegmentationModel, config, InitConfig(folder, lora_rank=2), 1e-3).eval()
    given, other = model.strands(tokens(), LENGTHS)
    assert other is not None
    expected = pretrained.features(tokens(), LENGTHS)
    inside = torch.arange(40) < LENGTHS[:, None]
    assert torch.allclose(given[inside], expected[..., :16][inside], rtol=1e-5, atol=1e-6)
    assert torch.allclose(other[inside], expected[..., 16:].flip(-1)[inside], rtol=1e-5, atol=1e-6)
    merge_lora(model).save_pretrained(tmp_path / "tuned")
    again = SegmentationModel.from_pretrained(tmp_path / "tuned")
    assert torch.allclose(again(tokens(), LENGTHS), model(tokens(), LENGTHS), atol=1e-6)


def test_another_task_s_model_gives_its_stem_too(tmp_path: Path) -> None:
    torch.manual_seed(3)
    other = SequenceModel(replace(TASK, backbone=BACKBONE, stem_width=5, classes=("x", "y", "z")))
    folder = saved(other, tmp_path / "other")
    model = begun(folder)
    assert model.config.stem_width == 5
    assert model.config.classes == ("a", "b")
    assert torch.equal(model.embed(tokens(), LENGTHS), other.eval().embed(tokens(), LENGTHS))


def test_a_model_of_codons_begins_one_of_codons(tmp_path: Path) -> None:
    codons = SequenceModel(replace(TASK, backbone=BACKBONE, frames=3))
    folder = saved(codons, tmp_path / "codons")
    model = begun(folder, replace(TASK, frames=3))
    assert torch.equal(model.embed(tokens(), LENGTHS), codons.eval().embed(tokens(), LENGTHS))
    with pytest.raises(UserError, match=r"frames: expected 3, got 1: the model in .* reads codons"):
        begun(folder)


def test_a_fine_tuned_model_is_saved_and_loaded(tmp_path: Path) -> None:
    model = begun(masked(tmp_path, vocabulary=PLANT_CADUCEUS))
    model.save_pretrained(tmp_path / "tuned")
    again = SequenceModel.from_pretrained(tmp_path / "tuned")
    assert again.config.embedding == PLANT_CADUCEUS
    assert torch.equal(again(tokens(), LENGTHS), model(tokens(), LENGTHS))
    turned = reverse_complement_tokens(tokens(), LENGTHS)
    assert torch.allclose(again(turned, LENGTHS), again(tokens(), LENGTHS), atol=1e-5)


def test_a_gradient_reaches_the_bases_through_a_pretrained_embedding(tmp_path: Path) -> None:
    model = begun(masked(tmp_path))
    one_hot = model.one_hot(tokens()).requires_grad_()
    model.forward_embedded(one_hot, LENGTHS)[:, 0].sum().backward()
    assert one_hot.grad is not None
    inside = torch.arange(40) < LENGTHS[:, None]
    assert (one_hot.grad[inside].abs().sum(dim=-1) > 0).all()
    assert (one_hot.grad[~inside] == 0).all()


def test_what_shapes_no_weight_stays_the_recipe_s(tmp_path: Path) -> None:
    wanted = replace(TASK, backbone=replace(TASK.backbone, dropout=0.25, checkpoint_activations=True))
    config = begun(masked(tmp_path), wanted).config.backbone
    assert config == replace(BACKBONE, dropout=0.25, checkpoint_activations=True)


def test_a_frozen_backbone_leaves_the_head(tmp_path: Path) -> None:
    model = begun(masked(tmp_path), freeze=True)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}


def test_rates_fall_from_the_head_to_the_embedding(tmp_path: Path) -> None:
    model = begun(masked(tmp_path), lr=1e-2, lr_decay=0.5)
    rates = {}
    for group in parameter_groups(model, 0.1, lr=1e-2):
        rates |= {id(parameter): group.get("lr", 1e-2) for parameter in group["params"]}
    found = {name: rates[id(parameter)] for name, parameter in model.named_parameters()}
    assert len(found) == len(rates)
    for name, rate in found.items():
        depth = {"head": 0, "backbone.norm_f": 0, "stem": 4}
        depth |= {f"backbone.layers.{i}.": 3 - i for i in range(3)}
        expected = next(1e-2 * 0.5**d for prefix, d in depth.items() if name.startswith(prefix))
        assert rate == pytest.approx(expected), name


def test_low_rank_updates_merge_into_the_exported_model(tmp_path: Path) -> None:
    model = begun(masked(tmp_path), lora_rank=2, lora_alpha=4.0)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(name.startswith("head") or "parametrizations" in name for name in trained)
    for name, parameter in model.named_parameters():
        if name.endswith(".up"):
            nn.init.normal_(parameter, std=0.1)
    merged = merge_lora(model)
    merged.save_pretrained(tmp_path / "tuned")
    again = SequenceModel.from_pretrained(tmp_path / "tuned")
    assert torch.allclose(again(tokens(), LENGTHS), model(tokens(), LENGTHS), rtol=1e-5, atol=1e-6)
    base = begun(masked(tmp_path))
    assert (model.embed(tokens(), LENGTHS) - base.embed(tokens(), LENGTHS)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr_decay": 0.0}, "init_from.lr_decay: expected a number above 0, 1 at most, got 0.0"),
        ({"freeze": True, "lora_rank": 4}, "a frozen backbone has neither lora_rank nor lr_decay"),
        ({"lora_alpha": 4.0}, "init_from.lora_alpha: is only used with lora_rank"),
        ({"lora_rank": -1}, "init_from.lora_rank: expected a whole number >= 0"),
    ],
)
def test_refuses_impossible_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        InitConfig("x", **options)  # type: ignore[arg-type]


def test_refuses_models_that_do_not_fit(tmp_path: Path) -> None:
    features = saved(Backbone(BACKBONE), tmp_path / "features")
    with pytest.raises(UserError, match="is a Backbone, expected one that reads DNA"):
        read_encoder(features)
    bytes_ = saved(LanguageModel(LanguageModelConfig(BACKBONE, vocab_size=4)), tmp_path / "four")
    with pytest.raises(UserError, match="expected at least 12 token ids"):
        read_encoder(bytes_)
    unknown = masked(tmp_path, vocabulary=Vocabulary(CADUCEUS.complement))
    with pytest.raises(UserError, match="does not say which of its token ids are bases"):
        read_encoder(unknown)
    with pytest.raises(UserError, match=r"frames: expected 1, got 3: the model in .* reads bases"):
        begun(masked(tmp_path), replace(TASK, frames=3))
    with pytest.raises(UserError, match="nowhere"):
        read_encoder(str(tmp_path / "nowhere"))


def test_without_a_pretrained_model_nothing_changes() -> None:
    model = build_model(SequenceModel, TASK, None, 1e-3)
    assert model.config == TASK
    assert not any(hasattr(parameter, "_max_lr") for parameter in model.parameters())
