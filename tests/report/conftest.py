"""A small folder with everything that a report is made from, and the page made from it."""

from __future__ import annotations

import json
import wave
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from abaw_emi.config.read import format_config
from abaw_emi.config.run import RunConfig
from abaw_emi.data.provenance import Provenance, write_with_provenance
from abaw_emi.report.charts.chart import Chart
from abaw_emi.report.page import PageFiles, write_report
from abaw_emi.report.sources import ReportSources
from tests.csv_tables import EMOTIONS
from tests.simulated import draw_labels, name

TRAIN, VALID, TEST = 60, 80, 10

DATE = "1780000000"
"""Of the page, in seconds: 2026-05-28."""

HOSTILE = "<b>$x_{$<script>alert(1) & \"q\" 'a'"
"""A name that breaks what is not escaped: in HTML, in an attribute, in a formula."""


def make_labels(data: Path, seed: int = 1) -> np.ndarray:
    """Labels of train and valid; returns those of valid."""
    labels = draw_labels(np.random.default_rng(seed), TRAIN + VALID)
    data.mkdir(parents=True)
    name(labels[:TRAIN], 0).write_csv(data / "train_split.csv")
    name(labels[TRAIN:], TRAIN).write_csv(data / "valid_split.csv")
    return labels[TRAIN:]


def make_wav(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = (8_000 * np.sin(np.arange(round(seconds * 16_000)) * 0.17)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())


def make_predictions(path: Path, values: np.ndarray, start: int = TRAIN, seen: int = TRAIN) -> pl.DataFrame:
    """A prediction file whose predictor has seen the first `seen` clips."""
    table = name(values, start)
    ids = frozenset(f"{i:05}" for i in range(seen))
    record = Provenance(command="abaw-emi train", trained_on=ids, trained_on_complete=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_with_provenance(table, path, record)
    return table


def make_run(run: Path, *, seed: int = 1, epochs: int = 3, loss: float = 0.1, **record: object) -> None:
    run.mkdir(parents=True)
    (run / "run.toml").write_text(format_config(RunConfig()))
    lines = []
    for epoch in range(1, epochs + 1):
        r = {emotion: 0.1 * epoch + 0.01 * place for place, emotion in enumerate(EMOTIONS)}
        mean = sum(r.values()) / 6
        valid = {"mean_pearson": mean, "pearson": r}
        lines.append({"epoch": epoch, "step": 10, "loss": 9.9})
        lines.append({"epoch": epoch, "train_loss": loss / epoch, "learning_rate": 1e-4, "valid": valid})
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    values = {"preset": "tiny", "seed": seed, "finished": "2026-01-01", "precision": "fp32", **record}
    (run / "provenance.json").write_text(json.dumps(values))


def make_ledger(out: Path) -> None:
    out.mkdir(parents=True)
    val = {"mean_pearson": 0.4, "interval": {"mean_pearson": [0.39, 0.41]}, "kind": "of the run on valid"}
    val["clipped_mean_pearson"] = 0.4056
    first = {"name": "first", "sha256": "a" * 64, "val": val, "signature": "emi_submission|rows:9"}
    lines = [
        {**first, "created": "2026-03-01T10:00:00+00:00"},
        {"amends": "first", "test_score": 0.4321},
        {"name": "second", "created": "2026-03-02T10:00:00+00:00", "sha256": "b" * 64, "val": None},
    ]
    (out / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def make_folder(folder: Path) -> None:
    """Labels, clips, three runs, a prediction file and a ledger."""
    truth = make_labels(folder / "data")
    rng = np.random.default_rng(2)
    for seed in (1, 2, 3):
        run = folder / "runs" / f"tiny-seed{seed}"
        make_run(run, seed=seed)
        make_predictions(run / "valid_predictions.csv", truth + 0.3 * seed * rng.standard_normal(truth.shape))
    make_predictions(folder / "predictions" / "theirs.csv", 0.1 + 0.2 * rng.standard_normal(truth.shape))
    make_ledger(folder / "submissions")
    for number in range(TRAIN, TRAIN + VALID + TEST):
        made = folder / "data" / ("audio" if number < TRAIN + VALID else "test_data/audio")
        make_wav(made / f"{number:05}.wav", 0.3 + 0.01 * (number % 7))


def sources_of(folder: Path) -> ReportSources:
    return ReportSources(
        data=folder / "data",
        runs=[folder / "runs"],
        predictions=sorted((folder / "predictions").glob("*.csv")),
        submissions=folder / "submissions",
    )


@dataclass
class Made:
    folder: Path
    written: PageFiles
    html: str


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("report")
    make_folder(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", DATE)
        written = write_report(sources_of(folder), folder / "report.html", folder / "figures")
    return Made(folder, written, written.page.read_text(encoding="utf-8"))


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the drawing, the slow part of a page, for tests of what else is on it."""
    monkeypatch.setattr(Chart, "pictures", lambda chart: [])


VOID = {"meta", "link", "input", "br", "hr", "img"}


class Page(HTMLParser):
    """What a page holds: its elements with their attributes, and the text of some of them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.append((self.open[-1], data.strip()))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.elements if name == tag]

    def text_of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    @property
    def text(self) -> str:
        return " ".join(text for name, text in self.texts if name not in ("script", "style"))
