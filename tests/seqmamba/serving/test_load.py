"""A server under load, and its page in a real browser: `make test-slow`."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from genomics.models import SequenceModel, SequenceModelConfig
from seqmamba.backbones import BackboneConfig

pytestmark = pytest.mark.slow
REQUESTS, SECONDS = 200, 60
FASTA = b">a\n" + b"ACGT" * 50 + b"\n"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Address and process of a server."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    backbone = BackboneConfig(64, 2, direction="bidirectional")
    SequenceModel(SequenceModelConfig(backbone, classes=("no", "yes"))).save_pretrained(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "seqmamba", "serve", str(folder), "--port", str(port)]
    process = subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"})
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"{url}/ready").raise_for_status()
            break
        except httpx.HTTPError:
            time.sleep(0.2)
    yield url, process.pid
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) in (0, -signal.SIGTERM)


def worker_of(url: str) -> int:
    found = subprocess.run(
        ["pgrep", "-f", "multiprocessing.spawn"], capture_output=True, text=True, check=True
    )
    return int(found.stdout.split()[0])


async def hammer(url: str, seconds: float, victim: int) -> Counter[int]:
    """Keep so many requests under way all the time, kill a process half-way, and count what they got."""
    counts: Counter[int] = Counter()
    end = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=REQUESTS, max_keepalive_connections=REQUESTS)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=70) as client:

        async def ask() -> None:
            while time.monotonic() < end:
                counts[(await client.post("/predict", content=FASTA)).status_code] += 1

        async def kill() -> None:
            await asyncio.sleep(seconds / 2)
            os.kill(victim, signal.SIGKILL)

        await asyncio.gather(kill(), *(ask() for _ in range(REQUESTS)))
    return counts


def test_many_requests_at_once_and_a_worker_killed_among_them(served: tuple[str, int]) -> None:
    url, server = served
    counts = asyncio.run(hammer(url, SECONDS, worker_of(server)))
    print(f"{sum(counts.values()) / SECONDS:.0f} requests a second: {dict(counts)}")
    assert set(counts) == {200}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_file_dropped_on_the_page(served: tuple[str, int], tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    evil = tmp_path / "evil.fa"
    evil.write_text("><img/src=x/onerror=alert(1)>\nACGTACGT\n>b\nTTTTGGGG\n")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.goto(served[0])
        page.get_by_text("This model takes FASTA").wait_for()
        page.set_input_files("#file", str(evil))
        page.get_by_text("2 predictions").wait_for()
        cells = page.locator("tbody tr td:first-child").all_inner_texts()
        evil.write_text("no FASTA")
        page.set_input_files("#file", [])
        page.set_input_files("#file", str(evil))
        page.get_by_text("a FASTA file starts with").wait_for()
        browser.close()
    assert cells == ["<img/src=x/onerror=alert(1)>", "b"]
    assert wrong == [message for message in wrong if "400" in message]
