"""A server with a classifier of sequences: the numbers of `predict`, and what it makes of everything else."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from genomics.alphabet import encode
from genomics.inference import predict_tokens
from genomics.models import SequenceModel, SequenceModelConfig
from genomics.serving import SequenceAnswerer
from seqmamba.backbones import BackboneConfig
from seqmamba.errors import UserError
from seqmamba.serving.app import Server
from seqmamba.serving.limits import Limits

FASTA = b">a first\nACGTACGTAA\n>b\nTTTTTGGGGGCC\n"
LIMITS = Limits(body_bytes=2_000, items=10, bases=100, seconds=30, waiting=8)


@pytest.fixture(scope="module")
def model() -> SequenceModel:
    torch.manual_seed(0)
    backbone = BackboneConfig(8, 1, direction="bidirectional")
    return SequenceModel(SequenceModelConfig(backbone, classes=("no", "yes"))).eval()


@pytest.fixture(scope="module")
def server(model: SequenceModel, tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    server = Server(str(folder), "cpu", 1, LIMITS)
    server.load()
    return server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[TestClient]:
    with TestClient(server.application(["testserver"])) as client:
        yield client


def test_the_numbers_are_those_of_predict(client: TestClient, model: SequenceModel) -> None:
    rows = client.post("/predict", content=FASTA).json()["predictions"]
    expected = predict_tokens(model, [encode(b"ACGTACGTAA"), encode(b"TTTTTGGGGGCC")])
    assert [row["name"] for row in rows] == ["a", "b"]
    found = [list(row["probabilities"].values()) for row in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert [row["prediction"] for row in rows] == [("no", "yes")[i] for i in expected.argmax(axis=1)]


def test_a_table_if_that_is_wanted(client: TestClient) -> None:
    text = client.post("/predict", content=FASTA, headers={"accept": "text/tab-separated-values"}).text
    head, *rows = (line.split("\t") for line in text.splitlines())
    assert head == ["name", "prediction", "no", "yes"]
    assert [row[0] for row in rows] == ["a", "b"]
    assert float(rows[0][2]) + float(rows[0][3]) == pytest.approx(1, abs=2e-6)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"hello", 400, "a FASTA file starts with '>'"),
        (b"", 400, "expected a file, got nothing"),
        (b">a\nAC1T\n", 400, "body:2"),
        (b"\x1f\x8b\x08\x00", 400, "expected plain FASTA, got gzip"),
        (b">a\n" + b"A" * 101 + b"\n", 400, "at most 100 bases, got 101 in 'a'"),
        (b"".join(b">%d\nA\n" % i for i in range(11)), 400, "at most 10 sequences, got more"),
        (b">a\n" + b"A" * 3_000, 413, "at most 2,000 bytes"),
    ],
)
def test_what_is_refused(client: TestClient, body: bytes, status: int, words: str) -> None:
    answer = client.post("/predict", content=body)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert "/" not in answer.json()["error"]  # nothing of the server's files


def test_a_body_that_does_not_say_its_size_is_cut_off(client: TestClient) -> None:
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1_000):
            sent += 1
            yield b"A" * 100

    assert client.post("/predict", content=parts()).status_code == 413


def test_other_sites_and_other_names(client: TestClient) -> None:
    assert client.post("/predict", content=FASTA, headers={"origin": "http://evil.com"}).status_code == 403
    assert client.post("/predict", content=FASTA, headers={"origin": "http://testserver"}).status_code == 200
    assert client.get("/model", headers={"host": "evil.com"}).status_code == 400
    assert client.get("/predict").status_code == 405


def test_what_else_it_tells(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"workers": 1}
    about = client.get("/model").json()
    assert (about["task"], about["classes"], about["takes"]) == ("classification", ["no", "yes"], "FASTA")
    assert 'seqmamba_requests_total{status="200"}' in client.get("/metrics").text


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css"])
def test_the_page_loads_nothing_but_its_own(client: TestClient, path: str) -> None:
    page = client.get(path)
    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "http" not in page.text
    assert "innerHTML" not in page.text


def test_a_killed_worker_is_replaced(client: TestClient, server: Server) -> None:
    [worker] = server._workers
    assert worker.process_id is not None
    os.kill(worker.process_id, signal.SIGKILL)
    assert client.post("/predict", content=FASTA).status_code == 200
    assert "seqmamba_workers_lost_total 1" in client.get("/metrics").text
    assert worker.starts == 2


def test_a_worker_that_dies_while_nobody_asks_is_replaced_too(client: TestClient, server: Server) -> None:
    [worker] = server._workers
    starts = worker.starts
    os.kill(worker.process_id or 0, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while worker.starts == starts or not worker.ready:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert client.get("/ready").json() == {"workers": 1}


def test_a_folder_without_a_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json"):
        Server(str(tmp_path), "cpu", 1, LIMITS).load()


def test_only_models_that_predict_are_taken(model: SequenceModel) -> None:
    from genomics.serving import answerer

    assert isinstance(answerer(model, LIMITS), SequenceAnswerer)
    assert answerer(torch.nn.Linear(1, 1), LIMITS) is None
