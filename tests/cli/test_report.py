"""`mgap report`: one HTML file for any run folder; opened in a real browser if one is installed."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from helpers.program import Done, mgap, sets

from mgap_cli.errors import UnfitError
from mgap_cli.report.page.run_page import RunReport
from mgap_cli.runs.reader import RunFolder

FAST = sets("analysis.resamples=19", "gap.n_init=1", "evaluate.bootstrap=50")
HOSTILE = "<img src=x onerror=alert(1)> & \"q\" 'r' [bold]"
VOID = {"meta", "link", "img", "br"}
SECTIONS = ["run", "gap", "evaluation", "time", "moves", "clips", "data", "configuration", "environment"]


class Page(HTMLParser):
    """Reads a page strictly: every element is closed, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.text).split())


def report(run: Path, store: Path | None = None) -> Page:
    return Page(RunReport(RunFolder(run, store)).html())


@pytest.fixture
def drawn_fast(monkeypatch):
    """Draw nothing, because the test is about other parts."""
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes([0, 0, 0, 9]) * 2
    monkeypatch.setattr("mgap_cli.report.page.run_page.png_bytes", lambda figure: png)


@pytest.fixture(scope="module")
def judged(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which everything is known, in a folder with a name that is markup."""
    run = Path(shutil.copytree(finished, tmp_path_factory.mktemp("judged") / HOSTILE))
    for args in (
        ("analyze-gap", run / "warmup.pt", *FAST),
        ("evaluate", run / "warmup.pt", run / "adapt.pt", "--plot", *FAST),
        ("analyze-gap", run / "warmup.pt", run / "adapt.pt", "--plot", *FAST),
    ):
        done = mgap(*args)
        assert done.code == 0, done.err
    return run


@pytest.fixture(scope="module")
def written(judged: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """The page as the command writes it, and what the command said."""
    path = tmp_path_factory.mktemp("written") / "page.html"
    return path, mgap("report", judged, "-o", path, "--json")


def test_page_has_everything_inside(judged, written):
    out, done = written
    document = done.json()
    assert (
        document["schema"] == "mgap.report/1" and document["path"] == str(out) and document["missing"] == []
    )
    html = out.read_text(encoding="utf-8")
    page = Page(html)
    assert [a["id"] for a in page.all("h2")] == SECTIONS
    assert [a["href"] for a in page.all("a")] == [f"#{key}" for key in SECTIONS]
    assert page.all("script") == [] and len(page.all("h1")) == 1 and page.all("html") == [{"lang": "en"}]
    assert not re.search(r"(src|href)=\"(?!data:|#)|url\(|@import|https?://", html)
    images = page.all("img")
    assert len(images) >= 12 + 4 and all(image["alt"] for image in images)
    tables = page.all("table")
    assert len(tables) > 12 and len(page.all("caption")) == len(tables)
    assert {a.get("scope") for a in page.all("th")} == {"col", "row"}
    assert HOSTILE in page.said
    for sentence in document["verdict"]:
        assert " ".join(sentence.split()) in page.said
    assert document["verdict"][:4] == json.loads((judged / "evaluate.json").read_text())["verdict"]
    verdict = " ".join(document["verdict"])
    for words in ("Gaps of warmup.pt on train", "Accuracy on test", "McNemar p", "by the mixture of"):
        assert words in verdict


def test_figures_are_those_of_the_documents(judged, drawn_fast):
    page = report(judged)
    evaluation = json.loads((judged / "evaluate.json").read_text())
    for e in evaluation["evaluations"]:
        for head in e["heads"].values():
            low, high = head["accuracy_interval"]
            assert f"{100 * head['accuracy']:.1f} {100 * low:.1f}-{100 * high:.1f}" in page.said
    _, _, p, q, *_ = (judged / "gap-warmup.csv").read_text().splitlines()[1].split(",")
    assert f"p audio {float(p):.3f}, p visual {float(q):.3f}, gap {float(p) - float(q):+.3f}" in page.said
    assert "Skipped clips: none" in page.said and "Leakage between splits" in page.said


def test_the_page_has_the_confidence_of_the_analysis(run, drawn_fast):
    words = [*FAST, "--set", "analysis.confidence=0.8", "--held-out", "--json"]
    done = mgap("analyze-gap", run / "warmup.pt", *words)
    assert done.code == 0, done.err
    said = report(run).said
    for table in ("Gap by leading modality", "Imbalanced by class", "Why a modality lags"):
        assert re.search(rf"{table}.{{0,1000}}80 % interval", said), table
    causes = done.json()["causes"]
    assert len(causes) == 2 and all(cause["sentence"] in said for cause in causes)
    assert f"{causes[0]['cross_fitted']['mean']:.3f}" in said


def test_a_part_of_a_run_is_reported(run, drawn_fast):
    for name in ("adapt.pt", "adapt-last.pt"):
        (run / name).unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join(lines[:3]) + "\n")
    (run / "status.json").write_text('{"state": "preempted", "stage": "warmup", "epoch": 2, "step": 4}')
    page = report(run)
    assert "The run is not finished: preempted in stage warmup, epoch 2." in page.said
    assert f"mgap analyze-gap {run / 'warmup.pt'}" in page.said
    assert f"mgap evaluate {run / 'warmup.pt'}" in page.said
    for name in ("warmup.pt", "warmup-last.pt", "metrics.jsonl", "env.json"):
        (run / name).unlink()
    page = report(run)
    assert "No epoch is finished yet" in page.said and "There is no env.json yet" in page.said
    assert "no checkpoint names the store" in page.said


def test_what_is_out_of_date_is_left_out(judged, tmp_path, drawn_fast):
    run = Path(shutil.copytree(judged, tmp_path / judged.name))
    shutil.copy(run / "adapt-last.pt", run / "adapt.pt")
    with (run / "adapt.pt").open("ab") as file:
        file.write(b"\0")  # a zip archive may end with other bytes: another file with the same weights
    page = report(run)
    assert "evaluate.json is left out, as it is for an earlier adapt.pt than the folder's" in page.said
    assert "movement.json is left out, as it is for an earlier adapt.pt" in page.said
    assert "Accuracy on test" not in page.said and "Gaps of warmup.pt on train" in page.said


def test_the_moves_of_an_earlier_version_are_left_out(judged, tmp_path, drawn_fast):
    run = Path(shutil.copytree(judged, tmp_path / "run"))
    document = json.loads((run / "movement.json").read_text())
    (run / "movement.json").write_text(json.dumps({**document, "schema": "mgap.movement/1"}))
    page = report(run)
    assert "movement.json is of another version of mgap (mgap.movement/1; this one reads" in page.said
    assert f"mgap analyze-gap {run / 'warmup.pt'} {run / 'adapt.pt'} --plot" in page.said
    assert "Moves from warmup to adapt" not in page.said


def test_a_missing_store_removes_only_its_sections(judged, tmp_path, store, drawn_fast):
    run = Path(shutil.copytree(judged, tmp_path / "moved"))
    moved = Path(shutil.copytree(store, tmp_path / "elsewhere"))
    for path in run.glob("*.pt"):
        content = torch.load(path, weights_only=True)
        content["store"]["path"] = str(tmp_path / "gone")
        torch.save(content, path)
    for name in ("gap-warmup.json", "evaluate.json", "movement.json"):
        document = json.loads((run / name).read_text())
        del document["sha256"]  # as earlier versions wrote them
        (run / name).write_text(json.dumps(document))
    page = report(run)
    assert page.said.count("its store is not at") == 2 and "Gaps of warmup.pt on train" in page.said
    assert len(report(run, moved).all("img")) == len(page.all("img")) + 12


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gap-warmup.json", "{"),
        ("gap-warmup.json", '{"fits": {}}'),
        ("evaluate.json", '{"evaluations": []}'),
        ("evaluate.json", "[]"),
        ("movement.json", '{"since_first": []}'),
        ("metrics.jsonl", '{"stage": "adapt", "epoch": 1, "mixture": 1}\n'),
        ("config.yaml", "train: ["),
        ("gap-warmup.csv", "id,label\n"),
    ],
)
def test_damaged_files_are_named(judged, tmp_path, name, content, drawn_fast):
    run = Path(shutil.copytree(judged, tmp_path / "run"))
    (run / name).write_text(content)
    with pytest.raises(UnfitError, match=re.escape(name)):
        report(run)


def test_a_failure_leaves_nothing(run):
    (run / "evaluate.json").write_text("{")
    mgap("report", run).fails(3, "evaluate.json", "damaged")
    assert not list(run.glob("*report*"))


def test_no_run_no_report(tmp_path, store):
    mgap("report", tmp_path / "none").fails(3, "no such folder")
    mgap("report", tmp_path).fails(3, "no file of a run")
    mgap("report", store / "clips.csv").fails(3, "is a file")


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra `test`)")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    quiet = ("no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update",
             "disable-sync", "no-first-run")  # fmt: skip
    with api.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=program, args=[f"--{word}" for word in quiet])
        yield opened
        opened.close()


@pytest.mark.parametrize(
    ("width", "scheme", "scripts"), [(400, "light", True), (1200, "dark", True), (400, "dark", False)]
)
def test_a_browser_shows_it(browser, written, width, scheme, scripts):
    out, _ = written
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=scripts
    )
    page = context.new_page()
    wrong: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url[:200]))
    page.goto(out.as_uri())
    assert wrong == []
    assert [url for url in asked if not url.startswith("data:")] == [out.as_uri()]
    assert page.title() == f"mgap report: {HOSTILE}"
    assert page.locator("h2").count() == len(SECTIONS)
    assert page.locator("main img").count() >= 16
    if scripts:  # what a page measures of itself
        assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        ink, back = (
            sum(map(int, re.findall(r"\d+", page.evaluate(f"getComputedStyle(document.body).{name}"))[:3]))
            for name in ("color", "backgroundColor")
        )
        assert (back > ink) == (scheme == "light") and abs(back - ink) > 400
        shrunk = (
            "[...document.querySelectorAll('td')].filter(c => c.textContent.length > 3 && c.clientWidth < 20)"
        )
        assert page.evaluate(f"{shrunk}.length") == 0  # no column is a letter wide
    assert page.screenshot(full_page=True).startswith(b"\x89PNG")
    context.close()
