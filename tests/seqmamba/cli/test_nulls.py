"""Null on the command line, for values of sections inside a data module or a task."""

from __future__ import annotations

import pytest
from lightning import LightningDataModule

from seqmamba.cli.nulls import spell_nulls
from seqmamba.cli.recipe_options import build_data

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
RECIPE = {
    "data": {
        "class_path": "audio.datasets.WaveformDataModule",
        "init_args": {"source": "x", "loading": {"rate": 8000, "crop_seconds": 2.0, "batch_size": 3}},
    }
}


def built(*assignments: str) -> LightningDataModule:
    return build_data(RECIPE, assignments)


def test_a_null_in_a_section_leaves_the_rest_of_it() -> None:
    loading = built("data.init_args.loading.crop_seconds=null").loading
    assert (loading.crop_seconds, loading.rate, loading.batch_size) == (None, 8000, 3)
    several = ("data.init_args.loading.rate=null", "data.init_args.split.validation=null")
    module = built(*several, "data.init_args.loading.crop_seconds=1.5")
    assert (module.loading.rate, module.split.validation, module.loading.crop_seconds) == (None, None, 1.5)
    columns = built("data.init_args.files.columns.label=null", "data.init_args.files.pattern=null")
    assert columns.files.columns.label is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--a.init_args.b.c", "null"], ["--a.init_args.b", '{"c": null}']),
        (["--a.init_args.b.c.d=null", "x"], ['--a.init_args.b={"c": {"d": null}}', "x"]),
        (["--a.init_args.b", "null"], ["--a.init_args.b", "null"]),
        (["--a.init_args.b.c", "nullable"], ["--a.init_args.b.c", "nullable"]),
        (["--trainer.logger", "null"], ["--trainer.logger", "null"]),
        (["fit", "--a.init_args.b.c"], ["fit", "--a.init_args.b.c"]),
    ],
)
def test_only_such_nulls_are_written_otherwise(words: list[str], expected: list[str]) -> None:
    assert spell_nulls(words) == expected
