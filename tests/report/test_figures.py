from __future__ import annotations

import csv
import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from abaw_emi.core.constants import EMOTIONS
from abaw_emi.evaluation.pearson import mean_pearson
from abaw_emi.report.charts.intensities import MOST_POINTS, chart_labels
from abaw_emi.report.page import write_report
from abaw_emi.report.sources import ReportSources
from tests.report.conftest import TRAIN, VALID, Made, make_ledger, make_predictions
from tests.simulated import draw_labels
from tests.simulated import name as name_clips

NAMES = {
    "labels",
    "durations",
    "label-correlations",
    "training-curves",
    "scores",
    "predicted-against-true",
    "who-beats-whom",
    "ensemble-gain",
    "validation-and-test",
}


def rows(made: Made, name: str) -> list[dict[str, str]]:
    with (made.folder / "figures" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_figure_is_there_as_png_svg_and_csv(made: Made) -> None:
    found = {path.name for path in (made.folder / "figures").iterdir()}
    assert found == {f"{name}.{form}" for name in NAMES for form in ("png", "svg", "csv")}
    assert {path.name for path in made.written.figures} == found


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_figure_is_as_wide_as_a_column_and_its_text_is_outlines(made: Made, name: str) -> None:
    root = ElementTree.parse(made.folder / "figures" / f"{name}.svg").getroot()
    assert float(root.attrib["width"].removesuffix("pt")) / 72 == pytest.approx(3.25)
    assert float(root.attrib["height"].removesuffix("pt")) / 72 < 9
    assert not list(root.iter("{http://www.w3.org/2000/svg}text"))  # the same in every viewer
    assert not list(root.iter("{http://www.w3.org/2000/svg}image"))  # vector
    png = (made.folder / "figures" / f"{name}.png").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    (width,) = struct.unpack(">I", png[16:20])
    assert width / 3.25 >= 300


def test_labels_of_few_clips_are_points_with_the_label_of_each(made: Made) -> None:
    truth = made.written.results.truth
    assert truth is not None
    for place, emotion in enumerate(EMOTIONS):
        own = [row for row in rows(made, "labels") if (row["emotion"], row["split"]) == (emotion, "valid")]
        assert [row["Filename"] for row in own] == [f"{TRAIN + i:05}" for i in range(VALID)]
        assert [float(row["intensity"]) for row in own] == truth[:, place].tolist()


def test_every_label_above_zero_is_one_point_apart_from_the_others() -> None:
    values = np.zeros((40, 6))
    values[:30] = 0.25  # one value, as the labels' fractions make it: 30 points, none above another
    panel = chart_labels({"valid": name_clips(values, 0)}).panels[0]
    axes = Figure().subplots()
    panel.draw(axes)
    (points,) = axes.get_lines()
    heights = np.sort(np.asarray(points.get_ydata()))
    assert set(np.asarray(points.get_xdata())) == {0.25}
    assert len(heights) == 30
    assert np.diff(heights).min() > 0.005
    assert "25% zero" in [text.get_text() for text in axes.texts]


def test_label_shares_of_many_clips_sum_to_one() -> None:
    labels = draw_labels(np.random.default_rng(0), MOST_POINTS + TRAIN + 1)
    splits = {"train": name_clips(labels[:TRAIN], 0), "valid": name_clips(labels[TRAIN:], TRAIN)}
    table = chart_labels(splits).data
    assert table.header == ["emotion", "split", "from", "to", "share_of_clips"]
    for emotion in EMOTIONS:
        for split in splits:
            shares = [float(row[-1]) for row in table.rows if (row[0], row[1]) == (emotion, split)]
            assert sum(shares) == pytest.approx(1)


def test_durations_of_a_split_sum_to_one(made: Made) -> None:
    for split in ("valid", "test"):
        own = [float(row["share_of_clips"]) for row in rows(made, "durations") if row["split"] == split]
        assert sum(own) == pytest.approx(1)


def test_few_clips_are_points_with_the_labels_and_predictions_of_each(made: Made) -> None:
    results = made.written.results
    assert results.truth is not None
    assert results.prediction is not None
    for place, emotion in enumerate(EMOTIONS):
        own = [row for row in rows(made, "predicted-against-true") if row["emotion"] == emotion]
        assert [row["Filename"] for row in own] == [f"{TRAIN + i:05}" for i in range(VALID)]
        assert [float(row["true"]) for row in own] == results.truth[:, place].tolist()
        assert [float(row["predicted"]) for row in own] == results.prediction[:, place].tolist()


def test_many_clips_are_a_density_that_counts_each_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = draw_labels(rng, TRAIN + 400)
    (tmp_path / "data").mkdir()
    name_clips(labels[:TRAIN], 0).write_csv(tmp_path / "data" / "train_split.csv")
    name_clips(labels[TRAIN:], TRAIN).write_csv(tmp_path / "data" / "valid_split.csv")
    make_predictions(tmp_path / "a.csv", labels[TRAIN:] + 0.1 * rng.standard_normal((400, 6)))
    sources = ReportSources(data=tmp_path / "data", predictions=[tmp_path / "a.csv"])
    report = write_report(sources, tmp_path / "report.html").report
    (chart,) = [chart for chart in report.charts if chart.name == "predicted-against-true"]
    assert chart.data.header[-1] == "clips"
    assert sum(int(row[-1]) for row in chart.data.rows) == 400 * len(EMOTIONS)


def test_the_gain_ends_at_the_score_of_the_mean_of_all(made: Made) -> None:
    gain = rows(made, "ensemble-gain")
    results = made.written.results
    runs = [s for s in results.standings if s.name.startswith("tiny-seed")]
    assert [row["members"] for row in gain] == ["1", "2", "3"]
    assert [row["subsets"] for row in gain] == ["3", "3", "1"]
    singles = [run.score.mean_pearson for run in runs]
    assert float(gain[0]["mean"]) == pytest.approx(np.mean(singles))
    assert float(gain[0]["highest"]) == max(singles)
    assert results.truth is not None
    mean = np.mean([run.table.sort("Filename").select(EMOTIONS).to_numpy() for run in runs], axis=0)
    assert float(gain[2]["mean"]) == pytest.approx(mean_pearson(results.truth, mean))


def test_every_pair_is_there_once_the_better_one_first(made: Made) -> None:
    pairs = rows(made, "who-beats-whom")
    count = len(made.written.results.standings)
    assert len(pairs) == count * (count - 1) // 2
    assert all(float(pair["difference"]) >= 0 for pair in pairs)


def test_the_worst_clips_are_the_worst_ones_first(made: Made) -> None:
    results = made.written.results
    assert results.truth is not None
    assert results.prediction is not None
    every = np.sqrt(((results.truth - results.prediction) ** 2).mean(axis=1))
    assert [clip.error for clip in results.worst] == sorted(every, reverse=True)[:20]
    for clip in results.worst:
        assert clip.audio == made.folder / "data" / "audio" / f"{clip.filename}.wav"


def test_curves_hold_every_epoch_of_every_run(made: Made) -> None:
    curves = rows(made, "training-curves")
    assert [(row["run"], row["epoch"]) for row in curves] == [
        (f"tiny-seed{seed}", str(epoch)) for seed in (1, 2, 3) for epoch in (1, 2, 3)
    ]
    assert float(curves[0]["train_loss"]) == 0.1


def test_figures_leave_other_files_of_the_folder_alone(made: Made, tmp_path: Path) -> None:
    make_ledger(tmp_path / "submissions")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.txt").write_text("mine")
    written = write_report(
        ReportSources(submissions=tmp_path / "submissions"), tmp_path / "report.html", tmp_path / "figures"
    )
    assert len(written.figures) == 3
    assert (tmp_path / "figures" / "mine.txt").read_text() == "mine"
