"""The audit: each kind of damage, planted into a sound corpus, is found with its severity and its clip."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from abaw_emi.audit import probe_cache
from abaw_emi.audit.probe import ProbeResult, probe_file
from abaw_emi.audit.probe_cache import ProbeCache
from abaw_emi.audit.record import find_audit, read_audit, warnings_for, write_audit
from abaw_emi.audit.run import audit_folder
from abaw_emi.core.errors import CorpusError, Diagnostic
from abaw_emi.data.folder import DataFolder
from tests.audio.foreign import write_sound
from tests.foreign_data import EMOTIONS
from tests.media import write_container

RATE = 16_000
TRAIN, VALID = range(8), range(8, 14)


def speak(number: int, seconds: float = 2.5) -> np.ndarray:
    """Noise through changing filters: no two numbers sound alike, and it changes all the time."""
    rng = np.random.default_rng(number)
    time = np.arange(round(seconds * RATE)) / RATE
    wave = 0.02 * rng.standard_normal(time.size)
    for _ in range(6):
        start, stop = rng.uniform(100, 4_000, 2)
        swell = np.sin(2 * np.pi * rng.uniform(0.5, 4) * time + rng.uniform(0, 6)) ** 2
        wave += swell * np.sin(2 * np.pi * (start + (stop - start) * time / seconds) * time)
    return (0.4 * wave / np.abs(wave).max()).astype(np.float32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "audio").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, numbers in (("train", TRAIN), ("valid", VALID)):
        lines = ["Filename," + ",".join(EMOTIONS)]
        for number in numbers:
            soundfile.write(root / "audio" / f"{number:05}.wav", speak(number), RATE)
            votes = rng.multinomial(10, [0.2, 0.15, 0.15, 0.1, 0.1, 0.1, 0.2])[:6]
            lines.append(f"{number:05}," + ",".join(f"{vote / 10:g}" for vote in votes))
        (root / f"{split}_split.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def run(data: Path) -> list[Diagnostic]:
    return audit_folder(DataFolder(data), store=ProbeCache(folder=data.parent / "cache"), jobs=1).findings


def of_kind(findings: list[Diagnostic], code: str) -> list[Diagnostic]:
    return [finding for finding in findings if finding.code == code]


def sound(data: Path, number: int) -> Path:
    return data / "audio" / f"{number:05}.wav"


def overwrite(data: Path, number: int, wave: np.ndarray, rate: int = RATE) -> None:
    soundfile.write(sound(data, number), wave, rate)


def test_clips_in_a_subfolder_are_named_and_what_is_lost_is_to_be_moved_up(data: Path) -> None:
    inner = data / "audio" / "b"
    inner.mkdir()
    for number in (3, 4):
        sound(data, number).rename(inner / f"{number:05}.wav")
    sound(data, 5).unlink()
    findings = run(data)
    (nested,) = of_kind(findings, "in a subfolder")
    assert str(nested) == f"data: {inner}/ holds 2 clips: 00003-00004; move them up"
    assert nested.severity == "warning"
    (lost,) = of_kind(findings, "no file")
    assert lost.ids == ("00003-00005",)
    assert lost.next_step == f"move up those that lie in {inner}/; of the others get audio/ or raw/"
    assert of_kind(findings, "not looked at") == []


def test_a_label_file_that_is_not_there_is_missing(data: Path) -> None:
    (data / "valid_split.csv").unlink()
    (found,) = of_kind(run(data), "label file")
    assert found.found == "valid_split.csv is missing"


def clip_hard(data: Path) -> None:
    overwrite(data, 3, np.clip(6 * speak(3), -1, 1))


def mislabel(data: Path) -> None:
    sound(data, 3).rename(data / "audio" / "00003.mp3")


def truncate(data: Path) -> None:
    content = sound(data, 3).read_bytes()
    sound(data, 3).write_bytes(content[: len(content) // 2])


def write_no_numbers(data: Path) -> None:
    wave = speak(3)
    wave[500:900] = np.nan
    soundfile.write(sound(data, 3), wave, RATE, subtype="FLOAT")


def oppose(data: Path, suffix: str = ".wav") -> None:
    sound(data, 3).unlink()
    wave = np.stack([speak(3), -speak(3)], axis=1)
    soundfile.write(data / "audio" / f"00003{suffix}", wave, RATE)


def take_the_sound_out(data: Path) -> None:
    sound(data, 3).unlink()
    write_container(data / "audio" / "00003.mp4", None)


def add_a_track(data: Path) -> None:
    sound(data, 3).unlink()
    write_sound(data / "audio" / "00003.mka", speak(3), RATE, "flac", tracks=2)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "unreadable": (lambda data: sound(data, 3).write_bytes(b""), "error"),
    "truncated": (truncate, "error"),
    "mislabelled": (mislabel, "error"),
    "damaged": (write_no_numbers, "error"),
    "too short": (lambda data: overwrite(data, 3, speak(3)[:300]), "error"),
    "silent": (lambda data: overwrite(data, 3, 0 * speak(3)), "warning"),
    "clipped": (clip_hard, "warning"),
    "low rate": (lambda data: overwrite(data, 3, speak(3)[::2], 8_000), "warning"),
    "rate": (lambda data: overwrite(data, 3, np.repeat(speak(3), 3), 48_000), "note"),
    "channels": (lambda data: overwrite(data, 3, np.stack([speak(3)] * 2, axis=1)), "note"),
    "offset": (lambda data: overwrite(data, 3, speak(3) + np.float32(0.3)), "note"),
    "short": (lambda data: overwrite(data, 3, speak(3)[:9_000]), "note"),
    "cancelled": (oppose, "warning"),
    "no sound": (take_the_sound_out, "error"),
    "remarks": (add_a_track, "note"),
    "long": (lambda data: overwrite(data, 3, speak(3, 13.0)), "note"),
}


def test_a_sound_corpus_has_nothing_but_its_size_against_it(data: Path) -> None:
    assert {finding.code for finding in run(data)} <= {"counts", "all zero", "label shift", "no test clips"}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_of_a_file_is_found_with_its_severity_and_its_clip(data: Path, kind: str) -> None:
    plant, severity = DAMAGE[kind]
    assert not of_kind(run(data), kind)
    plant(data)
    found = run(data)
    (finding,) = of_kind(found, kind)
    assert (finding.severity, finding.ids, finding.splits) == (severity, ("00003",), ("train",))
    assert finding.means
    assert any("00003" in example for example in finding.examples)
    worst = [each.severity for each in found]
    assert worst == sorted(worst, key=("error", "warning", "note").index), "the worst first"


@pytest.mark.parametrize("suffix", [".mp3", ".ogg", ".flac"])
def test_channels_that_cancel_are_found_through_any_encoder(data: Path, suffix: str) -> None:
    oppose(data, suffix)
    (finding,) = of_kind(run(data), "cancelled")
    assert finding.ids == ("00003",)


def test_whatever_a_decoder_raises_is_a_finding(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise AttributeError("no codec")

    monkeypatch.setattr("abaw_emi.audit.probe.take_fingerprint", fail)
    (finding,) = of_kind(run(data), "damaged")
    assert "AttributeError: no codec" in finding.examples[0]


def test_a_file_of_a_suffix_that_is_not_read_is_named_and_an_id_in_any_form_is_read(data: Path) -> None:
    sound(data, 3).rename(data / "audio" / "00003.xyz")
    sound(data, 4).rename(data / "audio" / "4.wav")
    found = run(data)
    (missing,) = of_kind(found, "no file")
    assert missing.ids == ("00003",)
    assert missing.examples[0].endswith("00003.xyz: the suffix '.xyz' is not read")
    (stranger,) = of_kind(found, "not looked at")
    assert [Path(example).name for example in stranger.examples] == ["00003.xyz"]


def test_files_and_labels_are_held_against_each_other_both_ways(data: Path) -> None:
    sound(data, 3).unlink()
    soundfile.write(sound(data, 99), speak(99), RATE)
    (data / "test_split.csv").write_text("Filename\n00050\n", encoding="utf-8")
    found = run(data)
    nothing = [finding for finding in found if finding.severity == "error"]
    assert {name for finding in nothing for name in finding.ids} == {"00003", "00050"}
    (stray,) = [finding for finding in found if "00099" in finding.ids and finding.severity != "error"]
    assert stray.means


def test_a_missing_sound_file_with_a_video_is_a_warning(data: Path) -> None:
    (data / "raw").mkdir()
    write_container(data / "raw" / "00003.mp4", speak(3), rate=RATE)
    sound(data, 3).unlink()
    (finding,) = [each for each in run(data) if "00003" in each.ids and each.severity == "warning"]
    assert "video" in finding.found


def test_copies_across_splits_are_found_to_the_sample_and_encoded_anew(data: Path) -> None:
    shutil.copy(sound(data, 1), sound(data, 10))  # of valid
    soundfile.write(data / "audio" / "00012.mp3", 0.5 * speak(2), RATE)
    sound(data, 12).unlink()
    told = [finding for finding in run(data) if "same" in finding.found or "duplicate" in finding.code]
    text = json.dumps([[finding.found, *finding.examples] for finding in told])
    assert told
    assert all(finding.severity in ("error", "warning") for finding in told)
    for name in ("00001", "00010", "00002", "00012"):
        assert name in text
    others = {f"{number:05}" for number in (*TRAIN, *VALID)} - {"00001", "00010", "00002", "00012"}
    assert not any(name in text for name in others)


def change_labels(data: Path, split: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    path = data / f"{split}_split.csv"
    change(pl.read_csv(path, schema_overrides={"Filename": pl.String})).write_csv(path)


@pytest.mark.parametrize(
    ("kind", "severity", "change"),
    [
        ("label file", "error", lambda table: table.with_columns(Joy=pl.lit(1.5))),
        ("constant labels", "warning", lambda table: table.with_columns(Joy=pl.lit(0.2))),
        (
            "no fractions",
            "warning",
            lambda table: table.with_columns(Joy=pl.lit(0.123456) + pl.col("Joy") / 3),
        ),
        ("sums above 1", "note", lambda table: table.with_columns(Joy=pl.lit(0.9), Excitement=pl.lit(0.8))),
        (
            "all zero",
            "note",
            lambda table: table.with_columns(pl.col(EMOTIONS) * (pl.col("Filename") > "00003")),
        ),
    ],
)
def test_labels_that_are_not_as_delivered_are_told(
    data: Path, kind: str, severity: str, change: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    change_labels(data, "train", change)
    (finding,) = of_kind(run(data), kind)
    assert finding.severity == severity
    assert "train" in finding.splits


def test_an_id_in_two_splits_is_an_error(data: Path) -> None:
    lines = (data / "train_split.csv").read_text(encoding="utf-8").splitlines()
    with (data / "valid_split.csv").open("a", encoding="utf-8") as file:
        file.write(lines[1] + "\n")
    (finding,) = of_kind(run(data), "splits overlap")
    assert (finding.severity, finding.ids) == ("error", ("00000",))


def test_a_second_audit_listens_to_what_changed_only(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = audit_folder(DataFolder(data), store=ProbeCache(folder=data.parent / "cache"), jobs=1)
    listened: list[Path] = []

    monkeypatch.setattr(
        probe_cache, "probe_file", lambda path, *rest: (listened.append(path), probe_file(path, *rest))[1]
    )
    again = audit_folder(DataFolder(data), store=ProbeCache(folder=data.parent / "cache"), jobs=1)
    assert listened == []
    assert again.findings == first.findings
    overwrite(data, 5, speak(77))
    audit_folder(DataFolder(data), store=ProbeCache(folder=data.parent / "cache"), jobs=1)
    assert [path.stem for path in listened] == ["00005"]


def probe_or_crash(path: Path) -> ProbeResult:
    """As `probe_file`, but some files crash the decoder; it runs in the audit's processes."""
    if path.stem in ("00003", "00010"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return probe_file(path)


@pytest.mark.exact
def test_a_file_that_crashes_its_process_is_named_and_the_others_are_read(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = audit_folder(DataFolder(data), store=ProbeCache(folder=data.parent / "cache"), jobs=1)
    monkeypatch.setattr(probe_cache, "probe_file", probe_or_crash)
    found = audit_folder(DataFolder(data), store=ProbeCache(folder=data.parent / "other"), jobs=2)
    (finding,) = of_kind(found.findings, "damaged")
    assert finding.severity == "error"
    assert finding.ids == ("00003", "00010")
    assert "crashes the decoder" in finding.examples[0]
    assert found.seconds == expected.seconds | {"00003": None, "00010": None}
    assert not multiprocessing.active_children()


def test_a_record_speaks_for_the_folder_that_it_was_made_of(data: Path, tmp_path: Path) -> None:
    clip_hard(data)
    record = tmp_path / "audit.json"
    write_audit(audit_folder(DataFolder(data), store=ProbeCache(folder=tmp_path / "cache"), jobs=1), record)
    assert read_audit(record).clips == {"train": 8, "valid": 6} | {
        split: 0 for split in ("test",) if "test" in read_audit(record).clips
    }
    audit, problems = find_audit(DataFolder(data), tmp_path)
    assert audit is not None
    assert problems == []
    assert any("look clipped" in problem.found for problem in warnings_for(audit, "train"))
    assert not any("look clipped" in problem.found for problem in warnings_for(audit, "valid"))
    assert not any("look clipped" in problem.found for problem in warnings_for(audit, "train", reads=["gte"]))
    overwrite(data, 5, speak(5, 3.0))
    audit, problems = find_audit(DataFolder(data), tmp_path)
    assert audit is None
    assert "files have changed since" in str(problems[0])
    assert find_audit(DataFolder(data), data) == (None, [])


def test_a_record_made_before_findings_were_diagnostics_is_read_and_written_the_same(tmp_path: Path) -> None:
    made = Path(__file__).parent / "golden" / "audit.json"
    audit = read_audit(made)
    assert str(audit.findings[0]) == (
        "train: 6 clips have neither a sound file nor a video: 00000-00005; get audio/ or raw/ of these clips"
    )
    assert [finding.code for finding in audit.findings].count("no file") == 2
    write_audit(audit, tmp_path / "audit.json")
    assert json.loads((tmp_path / "audit.json").read_bytes()) == json.loads(made.read_bytes())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "is of format 2; expected format 1; make it with abaw-emi audit"),
        ({"findings": ["none"]}, "is no record of an audit; make it with abaw-emi audit"),
        ({"findings": [{"kind": "no file"}]}, "is no record of an audit; make it with abaw-emi audit"),
    ],
)
def test_a_record_of_another_form_is_refused_with_what_to_do(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    made = json.loads((Path(__file__).parent / "golden" / "audit.json").read_bytes())
    (tmp_path / "audit.json").write_text(json.dumps({**made, **change}))
    with pytest.raises(CorpusError, match=said):
        read_audit(tmp_path / "audit.json")


def draw_frames(frames: int, width: int = 384) -> np.ndarray:
    return np.random.default_rng(frames).normal(size=(frames, width)).astype(np.float32)


def write_features(data: Path) -> Path:
    """Features of every clip, 20 a second, and the file of clip 3."""
    (data / "vit").mkdir()
    for number in (*TRAIN, *VALID):
        np.save(data / "vit" / f"{number:05}.npy", draw_frames(50))
    np.save(data / "vit" / "00000.npy", draw_frames(49))
    return data / "vit" / "00003.npy"


FEATURE_DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no features": (lambda path: path.unlink(), "warning"),
    "unusable features": (lambda path: np.save(path, np.full((50, 384), np.nan, np.float32)), "error"),
    "feature widths": (lambda path: np.save(path, draw_frames(50, 300)), "error"),
    "feature lengths": (lambda path: np.save(path, draw_frames(400)), "warning"),
    "constant features": (lambda path: np.save(path, np.zeros((50, 384), np.float32)), "warning"),
}


@pytest.mark.parametrize("kind", FEATURE_DAMAGE)
def test_damage_of_a_feature_file_is_found(data: Path, kind: str) -> None:
    plant, severity = FEATURE_DAMAGE[kind]
    path = write_features(data)
    assert not [finding for finding in run(data) if "vit" in finding.found]
    plant(path)
    (finding,) = [finding for finding in run(data) if "vit" in finding.found]
    assert (finding.code, finding.severity, finding.ids) == (kind, severity, ("00003",))
    assert finding.splits == ("train",)


def test_features_that_lie_across_are_called_so(data: Path) -> None:
    write_features(data)
    for path in (data / "vit").iterdir():
        np.save(path, np.load(path)[:49].T[:, : 20 + int(path.stem) % 5])
    (finding,) = [finding for finding in run(data) if finding.code == "feature widths"]
    assert finding.next_step == "all have 384 rows: features x frames? save them transposed"


def test_extracted_folders_and_faces_are_looked_at_too(data: Path) -> None:
    features = data.parent / "features"
    (features / "gte").mkdir(parents=True)
    np.save(features / "gte" / "00000.npy", np.ones((3, 5), np.float32))
    for clip, names in {"00000": ("0.jpg", "2.jpg"), "00001": ()}.items():
        (data / "face_images" / clip).mkdir(parents=True)
        for name in names:
            (data / "face_images" / clip / name).write_bytes(b"x")
    folder = DataFolder(data, features)
    audit = audit_folder(folder, store=ProbeCache(folder=data.parent / "cache"), jobs=1)
    found = audit.findings
    told = {finding.code: finding for finding in found}
    assert "gte" in told["no features"].found
    assert told["no faces"].ids == ("00001",)
    assert "numbered up to 2" in told["face numbers"].examples[0]
    assert any("gte" in warning.found for warning in warnings_for(audit, "train"))
    assert any("gte" in warning.found for warning in warnings_for(audit, "train", reads=["gte"]))
    assert not any("gte" in warning.found for warning in warnings_for(audit, "train", reads=["sound", "vit"]))


def test_unread_features_and_transcripts_without_words_are_found(data: Path) -> None:
    features = data.parent / "features"
    for name, content in {
        "own/00000.h5": "x",
        "text/00000.txt": "",
        "text/00001.txt": "we did it",
        "text/00002.txt": "0:00 --> 0:02 we did it",
        "text/00003.vtt": "WEBVTT",
    }.items():
        (features / name).parent.mkdir(parents=True, exist_ok=True)
        (features / name).write_text(content, encoding="utf-8")
    audit = audit_folder(DataFolder(data, features), store=ProbeCache(folder=data.parent / "cache"), jobs=1)
    told = {(finding.code, finding.modality): finding for finding in audit.findings}
    assert "00000.h5; expected NNNNN.pkl" in told["unread files", "own"].examples[0]
    assert "00003.vtt; expected NNNNN.txt" in told["unread files", "text"].examples[0]
    assert told["no words", "text"].ids == ("00000",)
    assert told["no words", "text"].found == "1 of 3 transcripts are empty"
    assert told["unusable features", "text"].ids == ("00002",)


def test_where_several_processes_cannot_be_had_one_does_the_work(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = audit_folder(DataFolder(data), store=ProbeCache(folder=data.parent / "cache"), jobs=1)

    def deny(self: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(multiprocessing.context.SpawnContext, "Lock", deny)
    found = audit_folder(DataFolder(data), store=ProbeCache(folder=data.parent / "other"), jobs=2)
    assert found.findings == expected.findings
