"""Examples: what a system reads of each clip, its sound, its feature folders or both, as its config says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.texts import TextSpec
from abaw_emi.config.parts import SOUND
from abaw_emi.config.run import RunConfig
from abaw_emi.core.cache import CachedArray
from abaw_emi.core.constants import HOP_SAMPLES, MIN_SAMPLES, OnBadClip
from abaw_emi.core.hashing import sha256
from abaw_emi.features.reader import FeatureClip, FrameLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """What a system reads of each clip; systems that share it share the examples.

    Attributes:
        uses_audio: whether it has an encoder of sound.
        max_seconds: length to which sound is cut.
        names: of the features that it reads, in the model's order.
        limits: to how many frames each of these is cut.
        on_bad: "error" for an error that names all clips that cannot be read, "skip" to leave them out.
        text: how it reads transcripts, if one of the features is text; the others are feature folders.
    """

    uses_audio: bool
    max_seconds: float
    names: tuple[str, ...]
    limits: tuple[FrameLimits, ...]
    on_bad: OnBadClip = "error"
    text: TextSpec | None = None

    @classmethod
    def of(cls, config: RunConfig, on_bad: OnBadClip = "error", tokenizer: Any = None) -> Self:
        """What a run of `config` reads; `tokenizer` is that of its text encoder, if it has one."""
        features = config.model.features
        return cls(
            uses_audio=config.model.encoder != "none",
            max_seconds=config.data.max_seconds,
            names=tuple(feature.name for feature in features),
            text=next((TextSpec.of(feature, tokenizer) for feature in features if feature.backbone), None),
            limits=tuple(
                FrameLimits(most=feature.max_frames or config.data.max_frames, resample=feature.resample)
                for feature in features
            ),
            on_bad=on_bad,
        )

    @property
    def folders(self) -> tuple[str, ...]:
        """The feature folders that it reads."""
        return tuple(name for name in self.names if self.text is None or name != self.text.name)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Their names, in the model's order."""
        return (*((SOUND,) if self.uses_audio else ()), *self.names)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Example:
    """What a system reads of one clip; arrays lie in the cache until they are needed.

    Attributes:
        filename: its id.
        samples: its length in samples, by which examples are grouped.
        audio: its sound; None if it has none, or the system does not use any.
        features: float32 (T, D) of each feature folder that has the clip, by the folder's name.
        features_hash: SHA-256 of the features' files, in hexadecimal digits; "" without features.
        states, frames: float32 that was made of the sound, once it was (`models.encoders.sound.Fixed`).
    """

    filename: str
    samples: int
    audio: Clip | None = None
    features: Mapping[str, CachedArray] = field(default_factory=dict)
    features_hash: str = ""
    states: CachedArray | None = None
    frames: CachedArray | None = None

    @classmethod
    def join(
        cls,
        filename: str,
        clip: Clip | None = None,
        features: FeatureClip | None = None,
        *,
        uses_audio: bool = True,
    ) -> Self:
        """The example of a clip's sound and features, of which it has at least one.

        Args:
            filename: its id.
            clip: its sound.
            features: its features.
            uses_audio: whether the system has an encoder of sound.
        """
        if clip is not None:
            samples = clip.samples
        elif uses_audio or features is None:
            samples = MIN_SAMPLES  # among the shortest, where the row that it leaves empty costs least
        else:
            samples = HOP_SAMPLES * features.samples
        return cls(
            filename=filename,
            samples=samples,
            audio=clip,
            features={} if features is None else features.arrays,
            features_hash="" if features is None else features.source_hash,
        )

    @property
    def content_hash(self) -> str:
        """SHA-256 of the file or files that it was read from, in hexadecimal digits."""
        if self.audio is None:
            return self.features_hash
        audio_hash = self.audio.content_hash
        return sha256(f"{audio_hash}:{self.features_hash}".encode()) if self.features_hash else audio_hash
