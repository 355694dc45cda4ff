"""What presets read and the folders lack: transcripts by Whisper, faces, features by published encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from abaw_emi.config.run import RunConfig
from abaw_emi.core.constants import EncoderKind, OnBadClip, Precision, Split
from abaw_emi.core.errors import CorpusError, Problem, UsageError
from abaw_emi.core.progress import Reporter
from abaw_emi.core.suggest import suggest_name
from abaw_emi.data.folder import DataFolder
from abaw_emi.features.faces import FACE_FOLDER, find_faces
from abaw_emi.features.files import find_features
from abaw_emi.features.transcripts import TEXT_FOLDER, find_transcripts

WHISPER = "openai/whisper-large-v3-turbo"
"""Of the winner of 2026 (`docs/paper.md`)."""

ENCODERS: Mapping[str, str] = {
    "vit-huge": "google/vit-huge-patch14-224-in21k",
    "vit-base": "google/vit-base-patch16-224-in21k",
    "gte": "thenlper/gte-base",
    "wavlm-large": "microsoft/wavlm-large",
}
"""What makes the feature folders of presets; `vit` and `wav2vec2` are part of the official data."""

DETECTOR = "CenterFace"
"""What finds faces in videos, where the organisers' are missing (`extraction.detector`)."""

_KINDS: Mapping[str, EncoderKind] = {"gte": "text", "wavlm-large": "audio"}
"""What these encoders read, if it is not pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """One folder that presets read, and what of it is to be made.

    Attributes:
        name: of the folder.
        model: a hub id or a folder, or the detector of faces; "" for what only the organisers have.
        total: clips that could have it: all, those with faces, or those with a video.
        missing: how many of them have none.
        presets: that read it.
    """

    name: str
    model: str
    total: int
    missing: int
    presets: tuple[str, ...]

    @property
    def to_do(self) -> bool:
        """Whether there is something to make; of what only the organisers have, clips may be missing."""
        return self.missing > 0 and bool(self.model)

    @property
    def command(self) -> str:
        """The command that makes it."""
        if self.name == TEXT_FOLDER:
            return f"abaw-emi transcribe {self.model}"
        if self.name == FACE_FOLDER:
            return "abaw-emi faces"
        kind = " --kind text" if self.name == "gte" else ""
        return f"abaw-emi extract {self.model} --name {self.name}{kind}"

    def __str__(self) -> str:
        if not self.missing:
            return f"{self.name}: {self.total:,} clips, nothing is missing"
        if not self.model:
            return f"{self.name}: {self.missing:,} of {self.total:,} clips have none"
        return f"{self.name}: {self.missing:,} of {self.total:,} clips are missing: {self.command}"


def plan_preparation(
    configs: Mapping[str, RunConfig], data: DataFolder, models: Mapping[str, str] | None = None
) -> list[Preparation]:
    """What these presets read besides sound, and how many clips have none, in the order in which it is made.

    Args:
        configs: of the presets, by name.
        data: the data folder.
        models: other models than `WHISPER` (for "text") and `ENCODERS`, by folder.

    Raises:
        CorpusError: a folder cannot be listed, or something is missing that cannot be made: features of the
            organisers, or faces of videos.
        UsageError: `models` has a folder that no preset reads.
    """
    readers = _find_readers(configs)
    _check_read(models or {}, readers)
    clips = set(data.list_clips("all"))
    known = {TEXT_FOLDER: WHISPER, **ENCODERS, **(models or {})}
    watched = [readers[name] for name in readers if _is_of_faces(name) and name in known]
    cropped = _plan_faces(data, clips, list(chain(*watched)))
    faces = {clip for clip, paths in find_faces(data.root, data.features).items() if paths} & clips
    faces |= _list_uncropped(data, clips) if cropped else set()
    sounds = clips & set(data.files)
    planned = cropped
    for name in sorted(readers, key=lambda name: name != TEXT_FOLDER):  # words first
        wanted = faces if _is_of_faces(name) and faces else sounds
        planned.append(_plan_folder(data, name, known.get(name, ""), readers[name], wanted))
    if problems := [problem for each in planned for problem in _check(each, data, has_faces=bool(faces))]:
        raise CorpusError(problems)
    return planned


def _find_readers(configs: Mapping[str, RunConfig]) -> dict[str, list[str]]:
    """The presets that read each folder."""
    readers: dict[str, list[str]] = {}
    for preset, config in configs.items():
        for feature in config.model.features:
            readers.setdefault(TEXT_FOLDER if feature.backbone else feature.name, []).append(preset)
    if "gte" in readers:  # which is made of words
        readers.setdefault(TEXT_FOLDER, []).extend(readers["gte"])
    return readers


def _check_read(models: Mapping[str, str], readers: Mapping[str, Sequence[str]]) -> None:
    """Passes where a preset reads each of these folders."""
    if unread := [name for name in models if name not in readers]:
        found = "none of these presets reads it"
        raise UsageError(
            Problem(f"--model {name}=", found, next_step=suggest_name(name, readers)) for name in unread
        )


def _is_of_faces(name: str) -> bool:
    return name.startswith("vit")


def _plan_folder(
    data: DataFolder, name: str, model: str, presets: Sequence[str], wanted: set[str]
) -> Preparation:
    """What is to be made of a folder of transcripts or features, for the clips `wanted`."""
    found = _find_made(data, name)
    return Preparation(
        name=name,
        model=model,
        total=len(wanted),
        missing=len(wanted - set(found)),
        presets=tuple(dict.fromkeys(presets)),
    )


def _find_made(data: DataFolder, name: str) -> dict[str, Path]:
    """The files of a folder of transcripts or features that are there, by id."""
    if name == TEXT_FOLDER:
        return find_transcripts(data.root, data.features)
    return find_features(data.root, data.features, name)


def check_covered(configs: Mapping[str, RunConfig], data: DataFolder, split: Split) -> None:
    """Passes if some clip of a split has each feature that presets read: told before hours of training.

    Raises:
        CorpusError: names each folder of which no clip has any.
    """
    ids = set(data.ids(split))
    names = dict.fromkeys(
        TEXT_FOLDER if feature.backbone else feature.name
        for config in configs.values()
        for feature in config.model.features
    )
    step = "no model that reads it can predict them: make it, or choose other presets"
    if problems := [
        Problem(f"{name}, read by these presets", f"no clip of {split} has any", next_step=step)
        for name in names
        if ids.isdisjoint(_find_made(data, name))
    ]:
        raise CorpusError(problems)


def prepare_data(
    planned: Sequence[Preparation],
    data: DataFolder,
    reporter: Reporter,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    on_bad: OnBadClip = "error",
) -> None:
    """Makes what is missing; what is there stays, so that an interrupted command goes on.

    Args:
        planned: as `plan_preparation` found it.
        data: the data folder; everything is written into its `features`.
        reporter: shows progress.
        device: where the models run.
        precision: of their arithmetic.
        on_bad: what becomes of clips that cannot be read.

    Raises:
        EmiError: a model or a clip is not what it should be, or a folder cannot be made at all.
    """
    from abaw_emi.extraction.extract import extract  # torch, which a plan does not need
    from abaw_emi.extraction.faces import crop_faces
    from abaw_emi.extraction.transcribe import transcribe

    for number, each in enumerate(planned, start=1):
        reporter.say(f"{number} of {len(planned)}. {each}")
        if not each.to_do:
            continue
        if each.name == TEXT_FOLDER:
            transcribe(
                each.model,
                data,
                out=data.features / TEXT_FOLDER,
                device=device,
                precision=precision,
                on_bad=on_bad,
                reporter=reporter,
            )
        elif each.name == FACE_FOLDER:
            crop_faces(data, out=data.features, on_bad=on_bad, reporter=reporter)
        else:
            extract(
                each.model,
                data,
                kind=_KINDS.get(each.name, "vision"),
                out=data.features,
                name=each.name,
                device=device,
                precision=precision,
                on_bad=on_bad,
                reporter=reporter,
            )


def _plan_faces(data: DataFolder, clips: set[str], presets: Sequence[str]) -> list[Preparation]:
    """The faces to be cut out of videos, where the data folder has none at all."""
    videos = data.videos.keys() & clips
    if not presets or not videos or any(find_faces(data.root).values()):
        return []
    return [
        Preparation(
            name=FACE_FOLDER,
            model=DETECTOR,
            total=len(videos),
            missing=len(_list_uncropped(data, clips)),
            presets=tuple(dict.fromkeys(presets)),
        )
    ]


def _list_uncropped(data: DataFolder, clips: set[str]) -> set[str]:
    """The clips that have a video, and no folder of faces, not even an empty one."""
    return (data.videos.keys() & clips) - find_faces(data.root, data.features).keys()


def _check(each: Preparation, data: DataFolder, *, has_faces: bool) -> list[Problem]:
    """What stands against making what is missing."""
    if not each.missing:
        return []
    where = f"{each.name}, read by {', '.join(each.presets)}"
    if not each.model and each.missing == each.total:
        places = f"{data.root / each.name} or {data.features / each.name}"
        step = f"put it into {places}: it is part of the official data"
        return [Problem(where, f"{each.missing:,} clips have none", next_step=step)]
    if each.model and _is_of_faces(each.name) and not has_faces:
        step = f"put the faces into {data.root / 'face_images'}/NNNNN/, or choose presets without faces"
        return [
            Problem(where, "no clip has pictures of a face, or a video to cut them out of", next_step=step)
        ]
    return []


def parse_models(texts: Sequence[str]) -> dict[str, str]:
    """`NAME=MODEL` of each folder; a UsageError names those that are none."""
    pairs = [text.partition("=") for text in texts]
    if wrong := [text for text, pair in zip(texts, pairs, strict=True) if not (pair[1] and pair[2])]:
        raise UsageError(
            Problem(f"--model {text}", "not NAME=MODEL", "such as text=openai/whisper-small")
            for text in wrong
        )
    return {name: model for name, _, model in pairs}
