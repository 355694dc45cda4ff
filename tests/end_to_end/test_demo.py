from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from abaw_emi import mean_pearson

pytestmark = pytest.mark.end_to_end


def run_demo(folder: Path) -> dict[str, object]:
    result = subprocess.run(
        [sys.executable, "-m", "abaw_emi", "demo", "--out", "demo", "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def test_the_demo_learns_what_a_ridge_does_not_and_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    first = run_demo(tmp_path)
    scores = {
        system: {split: score["mean_pearson"] for split, score in by_split.items()}
        for system, by_split in first["scores"].items()  # type: ignore[attr-defined]
    }
    seeds = [scores[f"seed {seed}"]["test"] for seed in (1, 2, 3)]
    assert scores["ensemble"]["test"] >= 0.40
    assert scores["ensemble"]["test"] > scores["ridge"]["test"]
    assert scores["ensemble"]["test"] > sum(seeds) / len(seeds)

    archive = tmp_path / str(first["submission"])
    content = archive.read_bytes()
    made, known = map(json.loads, (tmp_path / "demo/submissions/ledger.jsonl").read_text().splitlines())
    assert made["val"]["mean_pearson"] == pytest.approx(scores["ensemble"]["valid"], abs=1e-6)
    truth, sent = tmp_path / "demo/truth/test_labels.csv", archive.with_name("predictions.csv")
    assert known["test_score"] == mean_pearson(truth, sent)
    # In the same folder, which the demo makes anew.
    second = run_demo(tmp_path)
    assert archive.read_bytes() == content
    assert second["sha256"] == first["sha256"]


def test_the_demo_leaves_a_folder_that_it_did_not_make_alone(tmp_path: Path) -> None:
    precious = tmp_path / "demo" / "data" / "notes.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work")
    result = subprocess.run(
        [sys.executable, "-m", "abaw_emi", "demo", "--out", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "not made by a demo" in result.stderr
    assert [path.name for path in (tmp_path / "demo").rglob("*")] == ["data", "notes.txt"]
