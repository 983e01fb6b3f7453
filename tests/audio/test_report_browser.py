"""Pages in a real browser: Chromium, driven by Playwright. Neither is needed for anything else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reported_runs as runs

from audio.report import SoundConfig, write_report

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
pytestmark = pytest.mark.slow
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

LOADED = """async () => {
  const seconds = [];
  for (const audio of document.querySelectorAll("audio")) {
    if (audio.readyState < 1) await new Promise((done, failed) => {
      audio.onloadedmetadata = done; audio.onerror = () => failed(audio.error.message);
    });
    seconds.push(audio.duration);
  }
  const sizes = [];
  for (const picture of document.querySelectorAll("svg image")) {
    const image = new Image();
    image.src = picture.href.baseVal;
    await image.decode();
    sizes.push([image.naturalWidth, image.naturalHeight]);
  }
  return {seconds, sizes, page: document.documentElement.scrollWidth, window: innerWidth};
}"""

WAIT = """() => { window.plays = new Promise(done =>
  document.querySelector("audio").addEventListener("playing", () => done(true), {once: true})
); }"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def evil_run(folder: Path) -> Path:
    names = [f"<img src=x onerror=alert(1)>\"'\u202e{i}.wav" for i in range(6)]
    runs.classification(folder / "run", names=names, classes=("<script>alert(1)</script>", "b", "c"))
    runs.sound(folder / "sounds" / names[0], seconds=12.0, rate=44_100, channels=2)
    return folder / "run"


def generated(folder: Path) -> Path:
    runs.generated(folder / "made")
    return folder / "made"


def timeline(folder: Path) -> Path:
    runs.timeline(folder / "t.parquet", labels=tuple("abcdefghijklm"), hops=400)
    return folder / "t.parquet"


def folds(folder: Path) -> Path:
    runs.cross_validation(folder / "cv")
    return folder / "cv"


@pytest.mark.parametrize("make", [evil_run, generated, timeline, folds])
@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1600, "light")])
def test_a_page_opens_whole_and_alone(
    browser: Any, tmp_path: Path, make: Any, width: int, scheme: str
) -> None:
    page = write_report(make(tmp_path), tmp_path / "page.html", SoundConfig())
    seconds = [seconds for seconds, _, _ in runs.players(page.read_text())]
    assert (10.0 in seconds) == (make is evil_run), "a long recording is cut"
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab, said, asked = context.new_page(), [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(dialog.message))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    found = tab.evaluate(LOADED)
    assert found["seconds"] == pytest.approx(seconds, abs=1e-3)
    assert len(found["sizes"]) == len(seconds)
    assert all(columns > 20 and mels >= 8 for columns, mels in found["sizes"])
    assert found["page"] <= found["window"] == width
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    if seconds:  # keys reach a player and start it
        tab.evaluate(WAIT)
        tab.focus("audio")
        tab.keyboard.press("Space")
        assert tab.evaluate("() => window.plays")
    context.close()
