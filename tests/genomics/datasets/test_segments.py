from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from annotated_genomes import planted, write_genbank

from genomics.alphabet import PAD
from genomics.datasets.regions import RegionSplit
from genomics.datasets.segments import DrawnWindows, Region, SegmentDataModule, WindowPlan
from genomics.gene_labels import UNKNOWN
from seqmamba.errors import UserError

SPLIT = RegionSplit(test_bases=203, validation_bases=101)


@pytest.fixture
def genomes(tmp_path: Path) -> dict[str, Any]:
    return {
        name: str(write_genbank(tmp_path / f"{name}.gb", *planted(seed, genes=16)))
        for seed, name in enumerate(("one", "two", "other"))
    }


def module(
    genomes: dict[str, Any], context: int = 64, overlap: float = 0.0, **options: Any
) -> SegmentDataModule:
    plan = WindowPlan(context, bases_per_epoch=640, bases_per_batch=256, overlap=overlap)
    seen = {name: genomes[name] for name in ("one", "two")}
    data = SegmentDataModule(seen, {"other": genomes["other"]}, split=SPLIT, windows=plan, **options)
    data.setup()
    return data


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("context", [64, 150, 1 << 20])
@pytest.mark.parametrize("part", ["validation", "test"])
def test_every_base_of_a_held_out_region_counts_once(
    genomes: dict[str, Any], part: str, context: int, overlap: float
) -> None:
    data = module(genomes, context, overlap)
    regions = data.regions[part]
    seen = [np.zeros(len(region), dtype=int) for region in regions]
    for batch in data.val_dataloader() if part == "validation" else data.test_dataloader():
        tokens, labels, places = (batch[key].numpy() for key in ("tokens", "labels", "place"))
        lengths = batch.get("lengths", torch.full((len(tokens),), tokens.shape[1])).tolist()
        assert tokens.shape[1] <= context
        for row, (which, first, last, start) in enumerate(places.tolist()):
            region, length = regions[which], lengths[row]
            seen[which][first:last] += 1
            here = slice(region.start + start, region.start + start + length)
            assert here.stop <= region.end  # no window leaves its region
            assert (tokens[row, :length] == region.chromosome.tokens[here]).all()
            assert (tokens[row, length:] == PAD).all()
            expected = np.full(tokens.shape[1], UNKNOWN)
            kept = region.chromosome.labels[region.start + first : region.start + last]
            expected[first - start : last - start] = kept
            assert (labels[row] == expected).all()
            if overlap == 0.5 and context == 64:  # nothing is judged nearer to an edge than a quarter
                assert first - start >= 16 or start == 0
                assert start + length - last >= 16 or start + length == len(region)
    assert all((counts == 1).all() for counts in seen)


def test_contexts_judge_the_same_bases(genomes: dict[str, Any]) -> None:
    def judged(context: int) -> list[tuple[int, int]]:
        found = []
        for batch in module(genomes, context).test_dataloader():
            for labels, (which, *_) in zip(batch["labels"], batch["place"].tolist(), strict=True):
                found += [(which, int(label)) for label in labels if label != UNKNOWN]
        return sorted(found)

    assert judged(32) == judged(100) == judged(5000)


def test_regions_and_classes(genomes: dict[str, Any]) -> None:
    data = module(genomes)
    assert [region.genome for region in data.regions["test"]] == ["one", "two", "other"]
    assert [region.unseen for region in data.regions["test"]] == [False, False, True]
    assert all(len(r) == 203 for r in data.regions["test"][:2])
    assert len(data.regions["test"][2]) == len(data.regions["test"][2].chromosome.tokens)
    labels = np.concatenate([r.chromosome.labels[: r.end] for r in data.regions["train"]])
    assert data.class_counts().tolist() == [int((labels == k).sum()) for k in range(7)]


def test_training_windows_are_new_every_epoch_and_the_same_in_every_run(genomes: dict[str, Any]) -> None:
    data = module(genomes, seed=3)
    loader = data.train_dataloader()
    assert len(loader) == 3  # 10 windows of 64 bases, 4 a batch

    def epoch(number: int, source: SegmentDataModule = data) -> torch.Tensor:
        drawn = source.train_dataloader()
        drawn.batch_sampler.set_epoch(number)  # type: ignore[union-attr]
        return torch.cat([batch["place"] for batch in drawn])

    assert epoch(0).shape == (10, 4)
    assert torch.equal(epoch(1), epoch(1, module(genomes, seed=3)))
    assert not torch.equal(epoch(0), epoch(1))
    assert not torch.equal(epoch(1), epoch(1, module(genomes, seed=4)))
    for batch in loader:
        assert batch["tokens"].shape[1] == 64
        assert "lengths" not in batch
        for which, first, last, start in batch["place"].tolist():
            assert (first, last) == (start, start + 64)
            assert 0 <= start <= len(data.regions["train"][which]) - 64


def test_all_starts_are_alike(genomes: dict[str, Any]) -> None:
    chromosome = module(genomes).regions["test"][2].chromosome
    regions = [
        Region("x", chromosome, 100, 120),
        Region("x", chromosome, 300, 305),
        Region("x", chromosome, 0, 14),
    ]
    drawn = DrawnWindows(regions, 10, seed=0)
    places = np.array([drawn[number]["place"].numpy() for number in range(8000)])
    assert set(places[:, 0]) == {0, 1, 2}
    starts = [tuple(place) for place in places[:, [0, 3]]]
    counts = np.array([starts.count(start) for start in sorted(set(starts))])
    assert len(counts) == 11 + 1 + 5  # a region shorter than a window is read whole
    assert (np.abs(counts - 8000 / 17) < 5 * (8000 / 17) ** 0.5).all()
    short = next(drawn[number] for number in range(8000) if places[number, 0] == 1)
    assert short["tokens"].tolist() == chromosome.tokens[300:305].tolist()


def test_the_same_bases_at_every_context() -> None:
    for context in (8_192, 131_072, 1_048_576):
        plan = WindowPlan(context)
        assert plan.windows_per_epoch * context == 33_554_432
        assert plan.windows_per_batch * context == 1_048_576
    assert WindowPlan(10_000_000).windows_per_batch == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"genomes": {}}, "genomes: expected at least one"),
        ({"unseen": {"a": "x"}}, "a is among the genomes too"),
        ({"scheme": "exons"}, "scheme: expected one of coding, genes"),
        ({"num_workers": -1}, "num_workers"),
        ({"seed": -1}, "seed"),
    ],
)
def test_refused_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SegmentDataModule(**{"genomes": {"a": "x"}, **options})


def test_refused_plans() -> None:
    for name in ("context", "bases_per_epoch", "bases_per_batch"):
        with pytest.raises(UserError, match=f"{name}: expected a positive number"):
            WindowPlan(**{name: 0})
    with pytest.raises(UserError, match="overlap: expected at least 0 and less than 1"):
        WindowPlan(overlap=1.0)


def test_genomes_too_short_to_be_divided(genomes: dict[str, Any]) -> None:
    data = SegmentDataModule({"one": genomes["one"]})
    with pytest.raises(UserError, match="no region of the genomes is for validation"):
        data.setup()


def test_worker_processes_draw_the_same_windows(genomes: dict[str, Any]) -> None:
    alone = [batch["tokens"] for batch in module(genomes).train_dataloader()]
    workers = [batch["tokens"] for batch in module(genomes, num_workers=2).train_dataloader()]
    assert all(torch.equal(a, b) for a, b in zip(alone, workers, strict=True))
