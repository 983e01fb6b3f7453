"""What every genomics verb takes on a million bases and on a chromosome: wall time, rate, peak memory.

    python tests/benchmarks/genomics_verbs.py -o genomics_verbs.json --device cuda
    python tests/benchmarks/genomics_verbs.py -o genomics_verbs.json --device cuda --merge earlier.json
    python tests/benchmarks/genomics_verbs.py --table genomics_verbs.json --into genomics/README.md

The weights are random, which costs what trained ones cost. The chromosome is random too unless ``--genome``
names a FASTA file, whose longest sequence is taken. Every result is checked to be complete and finite.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stderr
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pybigtools
import torch
import whole_runs
from genomics_inputs import (
    CHROMOSOME,
    Inputs,
    Scale,
    first_letters,
    longest_sequence,
    random_chromosome,
    write_models,
)
from genomics_regions import STEPS, find_genes, train_masked, train_segmentation

from genomics.alphabet import N, encode
from seqmamba.benchmarks.floors import measure_limits
from seqmamba.benchmarks.machine import describe_run, load_average
from seqmamba.benchmarks.results import SCHEMA, read, write
from seqmamba.cli.main import main as seqmamba

ROOT = Path(__file__).parents[2]
Run = Callable[[Path, Inputs, str], float]
"""Works with the models of a folder on inputs and a device; returns how many units it did."""


@dataclass(frozen=True)
class Case:
    """A row of the table; words in braces are fields of `Scale`.

    Attributes:
        name: What runs.
        model: Which model.
        unit: What the rate counts.
        input: On what.
        run: Does it.
    """

    name: str
    model: str
    unit: str
    input: str
    run: Run

    @property
    def verb(self) -> str:
        """Its first word, for ``--only``."""
        return re.findall(r"[\w-]+", self.name)[0]


def _genomics(verb: str, model: Path, *options: str, device: str) -> None:
    """Run a verb of the command line."""
    said = StringIO()
    with redirect_stderr(said):
        status = seqmamba(["genomics", verb, str(model), *options, "--device", device])
    if status:
        raise RuntimeError(f"genomics {verb} ended with {status}: {said.getvalue().rpartition('error: ')[2]}")


def predict(models: Path, inputs: Inputs, device: str) -> float:
    output = inputs.output("predictions.tsv")
    _genomics("predict", models / "classifier", inputs.sequences, "-o", str(output), device=device)
    rows = output.read_text().splitlines()[1:]
    assert len(rows) == inputs.scale.sequences
    return inputs.scale.sequences * inputs.scale.bases


def score_variants(models: Path, inputs: Inputs, device: str, *, model: str, far: bool = True) -> float:
    output, scale = inputs.output("scores.parquet"), inputs.scale
    table, count = (inputs.long_variants, scale.long_variants) if far else (inputs.variants, scale.variants)
    window = str(scale.bases if far else 1024)
    files = ("--genome", inputs.genome, "--tsv", table, "-o", str(output))
    _genomics("score-variants", models / model, *files, "--window", window, device=device)
    scores = pq.read_table(output)["SM_LLR"].to_numpy()
    assert len(scores) == count
    assert np.isfinite(scores).all()
    return count


def track(models: Path, inputs: Inputs, device: str, *, model: str, target: str, options: str = "") -> float:
    output, scale = inputs.output("track.bw"), inputs.scale
    files = ("--genome", inputs.genome, "-o", str(output), "--target", target)
    words = options.format(window=scale.window, region=inputs.region).split()
    _genomics("track", models / model, *files, *words, device=device)
    length = scale.bases if "--regions" in words else scale.chromosome
    values = _values(output, length)
    known = encode(first_letters(inputs.genome, length)) != N
    assert np.isfinite(values[known]).mean() > 0.99  # the first base of all has no score
    return length


def embed_windows(models: Path, inputs: Inputs, device: str) -> float:
    scale = inputs.scale
    rows = _embed(models, inputs, device, "--level", "window", "--window", str(scale.bases))
    assert rows == -(-scale.chromosome // scale.bases)
    return scale.chromosome


def embed_bases(models: Path, inputs: Inputs, device: str) -> float:
    options = ("--level", "base", "--dtype", "float16", "--bed", inputs.region)
    assert _embed(models, inputs, device, *options) == inputs.scale.bases
    return inputs.scale.bases


def _embed(models: Path, inputs: Inputs, device: str, *options: str) -> int:
    """Embed with the masked model, and return how many rows there are."""
    output = inputs.output("embeddings.parquet")
    files = ("--genome", inputs.genome, "-o", str(output))
    _genomics("embed", models / "masked", *files, *options, device=device)
    return int(pq.ParquetFile(output).metadata.num_rows)


def attribute(models: Path, inputs: Inputs, device: str, *, method: str, options: str = "") -> float:
    output, scale = inputs.output("attribution.npz"), inputs.scale
    files = (inputs.one, "-o", str(output), "--method", method)
    words = options.format(mutated=scale.mutated).split()
    _genomics("attribute", models / "classifier", *files, *words, device=device)
    with np.load(output) as found:
        scores = found["scores"]
    count = scale.mutated if method == "ism" else scale.bases
    assert scores.size == count
    assert np.isfinite(scores).all()
    return count


def _values(path: Path, length: int) -> np.ndarray:
    """Values of a bigWig, NaN where it has none."""
    with closing(pybigtools.open(str(path))) as file:
        return np.asarray(file.values(CHROMOSOME, 0, length, fillna=np.nan))


FILE = "{sequences} x {bases:,} bases"
CHROM = "{chromosome:,} bases"
ONE = "{bases:,} bases"
FAR = "{long_variants} SNVs, windows of {bases:,}"
NEAR = "{variants:,} SNVs, windows of 1,024"
HIDDEN = "--regions {region}"
CUT = "--window {window}"
CASES = (
    Case("`predict`", "classifier", "bases", FILE, predict),
    Case("`score-variants`", "masked", "variants", FAR, partial(score_variants, model="masked")),
    Case("`score-variants`", "causal", "variants", FAR, partial(score_variants, model="causal")),
    Case("`score-variants`", "masked", "variants", NEAR, partial(score_variants, model="masked", far=False)),
    Case(
        "`track --window {window}`",
        "segmentation",
        "bases",
        CHROM,
        partial(track, model="segmentation", target="background", options=CUT),
    ),
    Case(
        "`track`, state carried",
        "causal",
        "bases",
        CHROM,
        partial(track, model="causal", target="log_likelihood"),
    ),
    Case(
        "`track`, every base hidden once",
        "masked",
        "bases",
        ONE,
        partial(track, model="masked", target="log_likelihood", options=HIDDEN),
    ),
    Case("`embed --level window --window {bases}`", "masked", "bases", CHROM, embed_windows),
    Case("`embed --level base`", "masked", "bases", ONE, embed_bases),
    Case(
        "`attribute`, gradient x input",
        "classifier",
        "bases",
        ONE,
        partial(attribute, method="gradient_x_input"),
    ),
    Case(
        "`attribute --method integrated_gradients --steps 8`",
        "classifier",
        "bases",
        ONE,
        partial(attribute, method="integrated_gradients", options="--steps 8"),
    ),
    Case(
        "`attribute --method ism --central {mutated}`",
        "classifier",
        "bases mutated",
        ONE,
        partial(attribute, method="ism", options="--central {mutated}"),
    ),
    Case("genes of a region, to GFF3", "segmentation", "bases", ONE, find_genes),
    Case("{steps} training steps, genes", "segmentation", "bases", ONE, train_segmentation),
    Case("{steps} training steps, masked", "masked", "bases", ONE, train_masked),
)


Rows = dict[tuple[str, ...], dict[str, Any]]


def measure(options: argparse.Namespace, folder: Path, scale: Scale, kept: Rows) -> Iterator[dict[str, Any]]:
    """Yield the rows in their order: measured where asked for, or where no earlier one is kept."""
    given = longest_sequence(options.genome) if options.genome else random_chromosome(scale.chromosome)
    letters = given[: scale.chromosome]
    scale, small = replace(scale, chromosome=len(letters)), scale.small()
    if len(letters) < scale.bases * scale.sequences:
        sys.exit(f"--genome: expected {scale.sequences} x {scale.bases:,} bases, got {len(letters):,}")
    large = Inputs(folder / "large", letters, scale)
    warm = Inputs(folder / "small", letters[: small.chromosome], small)
    for case in CASES:
        run, size = (text.format(**asdict(scale), steps=STEPS) for text in (case.name, case.input))
        row = {"run": run, "model": case.model, "input": size, "unit": case.unit}
        old = kept.get(whole_runs.key(row))
        if not (case.verb in options.only if options.only else old is None):
            if old is not None:
                yield old
            continue
        arguments, first = ((folder / "models", inputs, options.device) for inputs in (large, warm))
        found = whole_runs.measure(case.run, arguments, first, options.device, __name__)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        yield {**row, "date": now, "revision": options.revision, **found}


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measure the genomics verbs on a million bases.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("-o", "--output", type=Path, metavar="JSON", help="file to write")
    add("--table", type=Path, metavar="JSON", help="print a file as Markdown and do nothing else")
    add("--into", type=Path, metavar="MD", help="with --table: document whose block of that file to replace")
    add(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        choices=("cpu", "cuda"),
        help="where",
    )
    add("--genome", metavar="FASTA", help="whose longest sequence is the chromosome; random bases without it")
    add("--only", nargs="+", choices=sorted({case.verb for case in CASES}), help="measure these only")
    add("--merge", type=Path, metavar="JSON", help="take what is not measured now, or all good rows, from it")
    add("--revision", default=whole_runs.revision(ROOT), metavar="COMMIT", help="what is measured")
    add("--d-model", type=int, default=256, metavar="N", help="channels of all models but the segmentation's")
    add("--layers", type=int, default=4, metavar="N", help="their layers")
    add("--recipe", type=int, nargs=2, default=(128, 8), metavar="N", help="channels and layers of that one")
    for name, value in asdict(Scale()).items():
        add(f"--{name.replace('_', '-')}", type=int, default=value, metavar="N", help="see `Scale`")
    return parser.parse_args(words)


def _command(options: argparse.Namespace) -> str:
    """Return a command line that measures all rows as these were measured."""
    words = ["python", "tests/benchmarks/genomics_verbs.py", "--device", options.device]
    usual = vars(parse([]))
    for name in ("genome", "d_model", "layers", "recipe", *asdict(Scale())):
        value = getattr(options, name)
        if value != usual[name]:
            values = value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)


def main(words: list[str] | None = None) -> int:
    options = parse(words)
    if options.table:
        table = whole_runs.markdown(read(options.table))
        if options.into is None:
            print(table)
        else:
            whole_runs.replace_block(options.into, f"genomics-verbs {options.table.name}", table)
        return 0
    scale = Scale(**{name: getattr(options, name) for name in asdict(Scale())})
    device = torch.device(options.device)
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "operator": "genomics verbs",
        "command": _command(options),
        "revision": options.revision,
        "load_before": load_average(),
        "scale": asdict(scale),
        **describe_run(device, measure_limits(device)),
        "rows": [],
    }
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        document["models"] = write_models(folder / "models", options.d_model, options.layers, options.recipe)
        kept = whole_runs.earlier_rows(options.merge, document) if options.merge else {}
        for row in measure(options, folder, scale, kept):
            document["rows"].append(row)
            outcome = f"{row['seconds']:.2f} s" if row["status"] == "ok" else row["detail"]
            print(f"{row['date']} {row['run']} ({row['model']}): {row['status']}, {outcome}", flush=True)
            if options.output:
                write(options.output, document)
    print(whole_runs.markdown(document))
    return int(any(row["status"] != "ok" for row in document["rows"]))


if __name__ == "__main__":
    sys.exit(main())
