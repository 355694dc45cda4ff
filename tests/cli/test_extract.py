"""extract and transcribe as a shell sees them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Shell, environment, problems

pytest.importorskip("torch", reason="needs the extra train")

import numpy as np

from abaw_emi.extraction.extract import Extraction
from tests.extraction.test_extract import write_face
from tests.media import tones, write_mp3
from tests.small_encoders import write_audio, write_text, write_vision, write_whisper

NUMBER = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data/`, of three clips, and models under `models/`."""
    place = tmp_path_factory.mktemp("place")
    (place / "data" / "audio").mkdir(parents=True)
    for number in range(NUMBER):
        write_mp3(place / "data" / "audio" / f"{number:05}.mp3", tones(0.5 + 0.3 * number))
        write_face(place / "data" / "face_images" / f"{number:05}" / "0.jpg", seed=number)
    write_audio(place / "models" / "hubert-small", "hubert")
    write_vision(place / "models" / "vit-small", "vit")
    write_text(place / "models" / "bert-small")
    write_whisper(place / "models" / "whisper-small")
    return place


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `abaw-emi ARGUMENTS` in a folder of its own that has the data and the models."""
    for name in ("data", "models"):
        (tmp_path / name).symlink_to(place / name)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "abaw_emi", *arguments],
            cwd=tmp_path,
            env=environment(HF_HUB_OFFLINE="1", ABAW_EMI_CACHE=str(tmp_path / "cache")),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


@pytest.mark.end_to_end
def test_features_of_sound_faces_and_words_one_after_the_other(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run("extract", "models/hubert-small", "--json")
    assert problems(done, 0) == ["3 clips, 0.00 h (3 decoded, 0 from the cache)"]
    told = json.loads(done.stdout)
    assert told["encoder"]["name"] == "models/hubert-small"
    del told["encoder"]
    assert told == {
        "path": "features/hubert-small",
        "kind": "audio",
        "layer": None,
        "rows": "frames",
        "width": 32,
        "written": ["00000-00002"],
        "kept": [],
        "missing": [],
        "skipped": [],
        "problems": [],
    }
    assert np.load(tmp_path / "features" / "hubert-small" / "00002.npy").shape == (54, 32)
    done = run("extract", "models/vit-small", "--name", "face", "--quiet")
    assert problems(done, 0) == []
    assert done.stdout == "features/face: 3 clips written, 0 kept (vision, rows: cls)\n"
    done = run("extract", "models/bert-small", "--quiet")
    assert problems(done, 1) == [
        "data, all: no clip has a word to encode; abaw-emi transcribe writes them",
    ]
    done = run("transcribe", "models/whisper-small", "--quiet")
    assert problems(done, 0) == []
    assert done.stdout == "features/text: 3 clips written (0 empty), 0 kept\n"
    words = json.loads(run("transcribe", "models/whisper-small", "--json").stdout)
    assert (words["written"], words["kept"]) == ([], ["00000-00002"])
    done = run("extract", "models/bert-small", "--quiet")
    assert problems(done, 0) == []
    assert done.stdout == "features/bert-small: 3 clips written, 0 kept (text, rows: tokens)\n"
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == [
        "bert-small", "face", "hubert-small", "text",
    ]  # fmt: skip


@pytest.mark.end_to_end
def test_what_is_wrong_is_one_line_and_json(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    run("extract", "models/hubert-small", "--name", "x", "--quiet")
    done = run("extract", "models/hubert-small", "--name", "x", "--layer", "2", "--json", "--quiet")
    (line,) = problems(done, 1)
    assert line.startswith("features/x: was made by models/hubert-small, layer None; expected ")
    assert json.loads(done.stdout) == {"problems": [line]}
    done = run("extract", "models/hubert-small", "--layer", "7")
    assert problems(done, 2) == ["--layer: 7; expected 0 to 2, the layers of models/hubert-small"]
    done = run("extract", "nobody/no-such-encoder")
    (line,) = problems(done, 1)
    assert line.startswith("nobody/no-such-encoder: revision 'main' is neither in the hub's local cache")
    assert line.endswith("or give ENCODER a folder")


@pytest.mark.end_to_end
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_the_line_that_goes_on(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, number: int, code: int
) -> None:
    slow = """
import time
from abaw_emi.cli import main
from abaw_emi.extraction import extract
check = extract.check_frames
def wait(*arguments):
    check(*arguments)
    time.sleep(0.5)
extract.check_frames = wait
main()
"""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            slow,
            "extract",
            "models/hubert-small",
            "--overwrite",
            "--name",
            "my features",
        ],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = tmp_path / "features" / "my features"
    for _ in range(600):
        if list(folder.glob("*.npy")) or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.splitlines()[-1] == (
        "stopped; go on with: abaw-emi extract models/hubert-small --name 'my features'"
    )
    there = len(list(folder.glob("*.npy")))
    assert 0 < there < NUMBER
    done = json.loads(run("extract", "models/hubert-small", "--name", "my features", "--json").stdout)
    assert done["kept"]
    assert len(list(folder.glob("*.npy"))) == NUMBER


def test_the_help_has_examples(shell: Shell) -> None:
    for command in ("extract", "transcribe"):
        text = shell(command, "--help", COLUMNS="120").stdout
        assert text.count(f"abaw-emi {command} ") >= 3


@pytest.mark.parametrize(
    ("folder_made", "following"),
    [
        ("features/vit", "next, to see which read it: abaw-emi presets"),
        (
            "feats/mine",
            "next: abaw-emi train --preset baseline-audio --set model.features.0.name=mine --limit 64 "
            "--features feats",
        ),
    ],
)
def test_what_reads_the_features_is_said(
    shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch, folder_made: str, following: str
) -> None:
    made = Extraction(
        folder=Path(folder_made),
        encoder={},
        written=("00000",),
        kept=(),
        skipped=(),
        kind="audio",
        rows="frames",
        width=8,
        missing=(),
    )
    monkeypatch.setattr("abaw_emi.extraction.extract.extract", lambda *_, **__: made)
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    done = shell("extract", "model", COLUMNS="200")
    assert problems(done, 0) == []
    assert done.stdout.splitlines()[-1] == following
