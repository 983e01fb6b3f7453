"""``seqmamba bench``: checks before times, honest failures, one table for terminal and document."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmamba.benchmarks import comparison, operators, peers, plots
from seqmamba.benchmarks.candidates import Candidate
from seqmamba.benchmarks.comparison import Settings, compare
from seqmamba.benchmarks.correctness import relative_errors, verdict
from seqmamba.benchmarks.floors import Limits, floors
from seqmamba.benchmarks.inputs import Arguments, Draw
from seqmamba.benchmarks.operators import OPERATORS
from seqmamba.benchmarks.peers import Peer, PeerUnavailable, import_without_init, is_out_of_memory
from seqmamba.benchmarks.plots import throughput
from seqmamba.benchmarks.results import Row, rank, read
from seqmamba.benchmarks.shapes import CPU_SHAPES, GPU_SHAPES, Shape, Widths, default_shapes, parse_shape
from seqmamba.benchmarks.tables import comparison_text, markdown
from seqmamba.benchmarks.timing import Memory, Spread, time_candidate
from seqmamba.cli import bench
from seqmamba.cli.main import main
from seqmamba.errors import UserError

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("results")
CPU = torch.device("cpu")
LIMITS = Limits(bandwidth=1e10, exponentials=None)
WIDTHS = Widths(state=4, head_dim=4, width=3)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure no bandwidth and repeat little."""
    monkeypatch.setattr("seqmamba.benchmarks.floors.measure_limits", lambda device: LIMITS)


def _settings(**changes: Any) -> Settings:
    return dataclasses.replace(
        Settings(CPU, torch.float32, WIDTHS, impls=["reference"], peers=[], seconds=0.01), **changes
    )


def _broken(change: Any) -> Peer:
    """A peer that computes the reference's result and changes it."""
    reference = OPERATORS["scan"].candidates(["reference"])[0].call
    return Peer("stranger", "pip install stranger", ("cpu",), lambda: lambda a: change(reference(a)))


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_has_shapes_a_verb_and_peers(name: str) -> None:
    assert name in bench.OPERATORS
    assert name in peers.PEERS
    for device_type, table in (("cuda", GPU_SHAPES), ("cpu", CPU_SHAPES)):
        assert [str(shape) for shape in default_shapes(name, device_type)] == list(table[name])
    assert list(bench.OPERATORS) == list(OPERATORS)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("length", [1, 37])
def test_implementations_pass_their_check_and_are_timed(name: str, length: int) -> None:
    found = compare(OPERATORS[name], Shape(2, length, 8), _settings(impls=None, peers=None), LIMITS)
    ours = [row for row in found.rows if row.kind == "seqmamba" and row.status != "absent"]
    assert ours
    for row in ours:
        assert row.status == "ok", row.detail
        assert max(row.errors.values()) < 1e-5
        assert set(row.times) == {"inference", "forward", "backward", "sum"}
        assert min(row.times["sum"].samples) > 0
    assert found.noise is not None


def test_the_check_covers_every_gradient_and_agrees_with_the_reference_in_float64() -> None:
    draw = Draw(CPU, torch.float32, 3)
    arguments = OPERATORS["scan"].draw(Shape(2, 45, 6), WIDTHS, draw)
    grad_y = draw.normal(2, 45, 6)
    exact = OPERATORS["scan"].exact(arguments, grad_y)
    assert set(exact) == {"y", *arguments}
    leaves = {name: x.double().requires_grad_() for name, x in arguments.items()}
    y = OPERATORS["scan"].candidates(["reference"])[0].call(leaves)
    grads = torch.autograd.grad(y, list(leaves.values()), grad_y.double())
    found = {"y": y.detach(), **dict(zip(leaves, grads, strict=True))}
    assert max(relative_errors(found, exact).values()) < 3e-7  # the exact results are kept in float32


def test_slices_of_channels_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("scan", "bidirectional", "ssd", "conv", "norm"):
        draw = Draw(CPU, torch.float32, 1)
        arguments = OPERATORS[name].draw(Shape(2, 20, 12), WIDTHS, draw)
        grad_y = draw.normal(*arguments[OPERATORS[name].result].shape)
        whole = OPERATORS[name].exact(arguments, grad_y)
        monkeypatch.setattr("seqmamba.benchmarks.exact._STATES", {"cpu": 1})
        sliced = OPERATORS[name].exact(arguments, grad_y)
        monkeypatch.undo()
        assert set(whole) == {"y", *arguments}
        assert max(relative_errors(sliced, whole).values()) < 1e-6


def test_inputs_are_those_of_a_new_layer_and_change_with_the_seed() -> None:
    one, same, other = (
        OPERATORS["scan"].draw(Shape(1, 8, 64), Widths(), Draw(CPU, torch.bfloat16, seed))
        for seed in (0, 0, 1)
    )
    assert one["A"][5].tolist() == pytest.approx([-float(n) for n in range(1, 17)])
    steps = torch.nn.functional.softplus(one["delta_bias"])
    assert 9e-4 < steps.min() < steps.max() < 0.11
    assert {x.dtype for name, x in one.items() if name in ("u", "delta", "B", "C", "z")} == {torch.bfloat16}
    assert {x.dtype for name, x in one.items() if name in ("A", "D", "delta_bias")} == {torch.float32}
    for name in ("u", "delta", "B", "C", "z", "delta_bias"):
        assert torch.equal(one[name], same[name])
        assert not torch.equal(one[name], other[name])


def test_a_wrong_result_has_no_time_and_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(peers.PEERS, "scan", (_broken(lambda y: y * 1.001),))
    file = tmp_path / "wrong.json"
    words = "bench scan --device cpu --shapes 1x9x4 --state 2 --impls numba --seconds 0.01 -o"
    assert main([*words.split(), str(file)]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"FAIL +stranger: off from float64 \(limit 1e-04\): y by 1.0e-03", printed)
    (ours, wrong) = json.loads(file.read_text())["comparisons"][0]["rows"]
    assert ours["status"] == "ok"
    assert wrong["status"] == "FAIL"
    assert "times" not in wrong


def test_not_a_number_is_wrong() -> None:
    errors = relative_errors({"y": torch.tensor([1.0, float("nan")])}, {"y": torch.ones(2)})
    assert verdict(errors, 1e-2) == "off from float64 (limit 1e-02): y by inf"
    assert verdict({"y": 1e-9}, 1e-2) is None


def test_running_out_of_memory_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(y: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 TiB.")

    monkeypatch.setitem(peers.PEERS, "scan", (_broken(too_large),))
    found = compare(OPERATORS["scan"], Shape(1, 9, 4), _settings(peers=["stranger"]), LIMITS)
    assert [(row.name, row.status) for row in found.rows] == [("reference", "ok"), ("stranger", "OOM")]
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


def test_a_failing_peer_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(y: Tensor) -> Tensor:
        raise RuntimeError("no kernel image\nfor this device")

    monkeypatch.setitem(peers.PEERS, "scan", (_broken(fail),))
    found = compare(OPERATORS["scan"], Shape(1, 9, 4), _settings(peers=["stranger"]), LIMITS)
    assert [row.status for row in found.rows] == ["ok", "error"]
    assert found.rows[1].detail == "RuntimeError: no kernel image"


def test_a_slow_candidate_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_PATIENCE", 0.0)
    (row,) = compare(OPERATORS["scan"], Shape(1, 9, 4), _settings(), LIMITS).rows
    assert row.status == "ok"
    assert len(row.times["sum"].samples) == 1


def test_missing_peers_say_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> Any:
        return import_without_init("a_package_that_does_not_exist", "ops")

    with pytest.raises(PeerUnavailable, match=r"not installed \(a-package.*\): pip install it"):
        Peer("it", "pip install it", ("cpu",), load).candidate("cpu")
    with pytest.raises(PeerUnavailable, match="runs on cuda only"):
        Peer("it", "pip install it", ("cuda",), load).candidate("cpu")


def test_a_package_is_imported_without_its_init(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "heavy_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('this must not run')\n")
    (package / "light.py").write_text("value = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    assert import_without_init("heavy_package", "light").value == 7


@pytest.mark.parametrize("name", ["scan", "bidirectional"])
def test_a_peer_gets_its_own_contiguous_layout(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """mamba-ssm's function is stood in for by ours behind its layout."""

    def selective_scan_fn(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, **rest: Any) -> Tensor:
        sequences = [u, delta, B, C, rest.pop("z", None)]
        assert all(x is None or x.is_contiguous() for x in sequences)
        u, delta, B, C, z = (None if x is None else x.transpose(1, 2) for x in sequences)
        y = operators.seqmamba.ops.selective_scan(u, delta, A, B, C, z=z, impl="reference", **rest)
        return y.transpose(1, 2)

    interface = types.SimpleNamespace(selective_scan_fn=selective_scan_fn, selective_scan_cuda=object())
    monkeypatch.setattr(peers, "import_without_init", lambda package, module: interface)
    (peer,) = (peer for peer in peers.PEERS[name] if peer.name.startswith("mamba-ssm"))
    stand_in = dataclasses.replace(peer, devices=("cpu",))
    monkeypatch.setitem(peers.PEERS, name, (stand_in,))
    settings = _settings(impls=[], peers=[peer.name])
    rows = compare(OPERATORS[name], Shape(2, 11, 6), settings, LIMITS).rows
    assert [(row.name, row.status, row.detail) for row in rows] == [(peer.name, "ok", "")]


def test_copies_are_made_outside_the_timed_region() -> None:
    seen: list[Arguments] = []

    def call(arguments: Arguments) -> Tensor:
        seen.append(arguments)
        return arguments["u"] * 2

    u = torch.randn(2, 5, 3)
    times = time_candidate(Candidate("double", "peer", call, transposed=True), {"u": u}, u, 0.001)
    assert {arguments["u"].shape for arguments in seen} == {(2, 3, 5)}
    assert all(arguments["u"] is seen[0]["u"] for arguments in seen)
    assert len(times["sum"].samples) >= 3


def test_the_larger_floor_counts() -> None:
    found = floors(8_000_000, 2_000_000, Limits(1e9, 1e9), 50_000_000)
    assert found["forward"].memory == pytest.approx(10.0)
    assert found["forward"].milliseconds == pytest.approx(50.0)
    assert found["backward"].size == 18_000_000
    assert found["sum"].milliseconds == pytest.approx(100.0)
    assert floors(8_000_000, 2_000_000, Limits(1e9, 1e9), 0)["sum"].exponentials is None


def test_rank_puts_the_fastest_first_and_what_has_no_time_last() -> None:
    def timed(name: str, *samples: float) -> Row:
        return Row(name, "seqmamba", "ok", times={"sum": Spread(samples)}, memory=Memory(0, None))

    rows = [Row("x", "peer", "OOM"), timed("slow", 9, 8, 40), timed("fast", 3), Row("y", "peer", "FAIL")]
    order, ratios = rank(rows, "slow")
    assert [row.name for row in order] == ["fast", "slow", "x", "y"]
    assert ratios == {"fast": 3.0, "slow": 1.0}
    assert rank(rows, "x")[1] == {}
    assert rank(rows, None)[1] == {}


def test_ratios_compare_with_the_peer_that_ran_most() -> None:
    def found(**statuses: Any) -> comparison.Comparison:
        rows = [Row(name.replace("_", "."), "peer", status) for name, status in statuses.items()]
        return comparison.Comparison("1x1x1", 1, 1, 1.0, {}, rows)

    runs = [found(transformers="skipped", mamba_py="ok"), found(transformers="ok", mamba_py="ok")]
    assert bench._usual_peer(OPERATORS["scan"], runs) == "mamba.py"
    assert bench._usual_peer(OPERATORS["scan"], runs[1:]) == "transformers"
    assert bench._usual_peer(OPERATORS["scan"], [found(mamba_py="FAIL")]) is None


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("bench") / "scan.json"
    words = "bench scan --device cpu --shapes 1x16x4 2x9x4 --state 2 --impls numba reference --peers"
    line = [*words.split(), "--seconds", "0.01", "--against", "reference", "-o", str(file)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["seqmamba", *line])
        assert main(line) == 0
    return read(file)


def test_the_file_says_what_ran_on_what(document: dict[str, Any]) -> None:
    assert document["schema"] == 1
    assert (document["operator"], document["dtype"], document["widths"]) == ("scan", "float32", {"state": 2})
    assert document["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert set(document["hardware"]) >= {
        "name",
        "threads",
        "copy_bytes_per_second",
        "exponentials_per_second",
    }
    assert document["command"].startswith("seqmamba bench scan --device cpu --shapes 1x16x4 2x9x4 ")
    assert [one["shape"] for one in document["comparisons"]] == ["1x16x4", "2x9x4"]
    for one in document["comparisons"]:
        assert [row["name"] for row in one["rows"]] == ["numba", "reference"]
        for row in one["rows"]:
            assert set(row["errors"]) == {"y", "u", "delta", "A", "B", "C", "D", "z", "delta_bias"}
            for phase in ("inference", "forward", "backward", "sum"):
                times = row["times"][phase]
                assert times["best_ms"] <= times["median_ms"] <= times["worst_ms"]
                assert times["median_ms"] in times["samples_ms"] or len(times["samples_ms"]) % 2 == 0
            assert row["memory"]["saved_bytes"] > 0
        assert one["rows"][1]["ratio"] == 1.0


def test_tables_show_every_candidate(document: dict[str, Any]) -> None:
    text = comparison_text(document["comparisons"][0], "reference")
    assert text.splitlines()[0].startswith("1x16x4   floor of forward + backward: memory ")
    assert re.search(r"^  reference .* 1\.00x ", text, flags=re.MULTILINE)
    table = markdown(document)
    assert table == markdown(json.loads(json.dumps(document)))
    assert len([line for line in table.splitlines() if line.startswith("|")]) == 2 + 4
    assert "| 1 x 16 x 4 | **" in table
    assert "within" in table.splitlines()[-1]


def test_table_verb(document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "kept.json"
    file.write_text(json.dumps(document))
    assert main(["bench", "table", str(file)]) == 0
    assert capsys.readouterr().out == markdown(document) + "\n"
    file.write_text("{}")
    assert main(["bench", "table", str(file)]) == 2
    assert "is no benchmark file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("scan --shapes 1x2", "a shape is written BxLxD"),
        ("scan --shapes 1x0x3", "a shape is written BxLxD"),
        ("scan --shapes 1x9x4 --impls fast", "--impls takes "),
        ("scan --shapes 1x9x4 --peers fast", "--peers takes "),
        ("scan --shapes 1x9x4 --state 0", "--state must be at least 1"),
        ("scan --seconds 0", "--seconds must be positive"),
        ("scan --device tpu", "--device: expected auto, cpu, cuda or cuda:N, got 'tpu'"),
        ("ssd --shapes 1x9x10 --head-dim 4", "whole heads of 4, got 10"),
    ],
)
def test_mistakes_are_named(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    device = [] if "--device" in words else ["--device", "cpu"]
    assert main(["bench", *words.split(), *device]) == 2
    assert message in capsys.readouterr().err


def test_an_operator_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = dataclasses.replace(OPERATORS["scan"], function="no_such_scan")
    with pytest.raises(UserError, match=r"not available: seqmamba\.ops has no no_such_scan"):
        missing.implementations()


def test_shapes_read_as_they_are_written() -> None:
    assert parse_shape("1x1048576x256") == Shape(1, 2**20, 256)
    assert str(Shape(1, 2, 3)) == "1x2x3"


_BLOCK = re.compile(r"<!-- bench ([\w.-]+) -->\n(.*?)\n<!-- /bench -->", re.DOTALL)
BLOCKS = _BLOCK.findall((ROOT / "README.md").read_text())


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*_[cg]pu.json")), ids=lambda file: file.stem)
def test_kept_results_render(file: Path) -> None:
    table = markdown(read(file))
    assert "FAIL" not in table


@pytest.mark.parametrize(("name", "block"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_the_readme_shows_the_newest_result(name: str, block: str) -> None:
    shown = read(RESULTS / name)
    key = (shown["operator"], shown["hardware"]["device"], [c["shape"] for c in shown["comparisons"]])
    for file in RESULTS.glob("*_[cg]pu.json"):
        other = read(file)
        if key == (
            other["operator"],
            other["hardware"]["device"],
            [c["shape"] for c in other["comparisons"]],
        ):
            assert other["date"] <= shown["date"], f"{file.name} is newer than {name}"
    assert block == markdown(shown), (
        f"paste what `seqmamba bench table tests/benchmarks/results/{name}` prints"
    )


@pytest.mark.gpu
@pytest.mark.parametrize("name", OPERATORS)
def test_gpu_implementations_pass_their_check_and_are_timed(name: str) -> None:
    settings = dataclasses.replace(_settings(impls=None), device=torch.device("cuda"), dtype=torch.bfloat16)
    found = compare(
        OPERATORS[name], Shape(2, 700, 256), dataclasses.replace(settings, widths=Widths()), LIMITS
    )
    assert found.rows[0].status == "ok", found.rows[0].detail
    assert found.rows[0].memory is not None
    assert found.rows[0].memory.peak is not None


@pytest.mark.parametrize("verb", ["scan", "generate"])
def test_a_file_of_earlier_measurements_stays(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.json"
    file.write_text("mine")
    assert main(["bench", verb, "-o", str(file)]) == 2
    assert f"{file}: exists already" in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_throughput_against_length(
    document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = throughput([document])
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        f"{name}, batch {batch}" for batch in (1, 2) for name in ("numba", "reference")
    ]
    row = document["comparisons"][1]["rows"][0]
    (point,) = axes.containers[2].lines[0].get_xydata()
    assert point.tolist() == pytest.approx([9, 1e3 * 2 * 9 / row["times"]["sum"]["median_ms"]])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["9", "16"]

    file, output = tmp_path / "scan.json", tmp_path / "length.svg"
    file.write_text(json.dumps(document))
    words = ["bench", "plot", str(file), "-o"]
    for _ in range(2):
        assert main([*words, str(output), "--overwrite"]) == 0
    first = output.read_bytes()
    assert main([*words, str(tmp_path / "again.svg")]) == 0
    assert first.startswith(b"<?xml")
    assert (tmp_path / "again.svg").read_bytes() == first
    assert main([*words, str(output)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "length.gif.xyz")]) == 2
    assert "expected one of the endings" in capsys.readouterr().err
    file.write_text(json.dumps({**document, "comparisons": []}))
    assert main([*words, str(tmp_path / "none.svg")]) == 2
    assert "expected 1 to 8 lines" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "text"), [(5, "5"), (16384, "16.4k"), (1_048_576, "1.05M"), (3e9, "3G")])
def test_counts_in_few_letters(number: float, text: str) -> None:
    assert plots._count(number) == text


@pytest.mark.parametrize(
    "words",
    [
        "bench norm --device cpu --shapes 1x16x4 --impls reference --peers --seconds 0.01",
        "bench generate --device cpu --d-model 8 --layers 1 --vocab 7 --batch 2 --position 5 --impls steps "
        "--seconds 0.01",
    ],
)
def test_json_for_machines(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words.split(), "--json"]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["operator"] == words.split()[1]
    assert "torch" in document["versions"]
    assert {"reference", "steps"} & set(printed.err.split())  # the table, for whoever watches
