"""A Whisper model: the sound of whole clips to text.

What fits Whisper's 30 s is one pass without time stamps; what does not is read segment by segment, alone,
each beginning where the model says that the one before ended (Radford et al., "Robust Speech Recognition via
Large-Scale Weak Supervision", section 3.8, as transformers does it). Greedy: the likeliest token each time,
at temperature 0, so that the text follows from the sound alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoFeatureExtractor, AutoTokenizer, WhisperForConditionalGeneration
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from abaw_emi.audio.clips import Clip, read_clip
from abaw_emi.core.constants import SAMPLE_RATE, Precision
from abaw_emi.core.errors import EmiError, Problem, UsageError, WeightsError, shorten_error
from abaw_emi.core.prefetch import run_ahead
from abaw_emi.data.layout import ClipFiles
from abaw_emi.extraction.encode import Source
from abaw_emi.models.device import autocast, memory_errors
from abaw_emi.models.hub import Pretrained
from abaw_emi.models.load import load_model, load_part

DETECT = "auto"
"""The language that stands for: ask the model, for each clip."""

WHOLE = 86_400.0
"""Seconds to which a clip is cut: none is as long as a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How text is made of what the model says.

    Attributes:
        language: such as "en" or "english", or `DETECT`.
        no_speech: segments that are silence with a probability above this one, and of a low likelihood, are
            left out; None leaves none out.
        logprob: what a low likelihood is, a segment's mean log-probability a token.
    """

    language: str = "en"
    no_speech: float | None = None
    logprob: float = -1.0

    @property
    def code(self) -> str:
        """The language in two letters or three, as Whisper's tokens have it."""
        language = self.language.lower()
        return TO_LANGUAGE_CODE.get(language, language)

    def to_json(self) -> dict[str, Any]:
        """The settings that shape the text."""
        logprob = None if self.no_speech is None else self.logprob
        return {
            "language": self.code,
            "no_speech_threshold": self.no_speech,
            "logprob_threshold": logprob,
        }


class Whisper:
    """A Whisper model on its device."""

    def __init__(
        self, pretrained: Pretrained, decoding: Decoding, device: torch.device, precision: Precision
    ) -> None:
        self._extractor = load_part(AutoFeatureExtractor, pretrained)
        self._tokenizer = load_part(AutoTokenizer, pretrained)
        self._name = pretrained.name
        model: Any = load_model(WhisperForConditionalGeneration, pretrained)
        self._model = model.to(device)
        self._settings = self._choose(decoding)
        self._device = device
        self._precision = precision

    def _choose(self, decoding: Decoding) -> dict[str, Any]:
        """The arguments of `generate`.

        Raises:
            UsageError: the model does not know the language.
        """
        settings: dict[str, Any] = {"do_sample": False, "num_beams": 1, "temperature": 0.0}
        if decoding.no_speech is not None:
            settings |= {"no_speech_threshold": decoding.no_speech, "logprob_threshold": decoding.logprob}
        config = self._model.generation_config
        if not getattr(config, "is_multilingual", False):
            if decoding.code not in ("en", DETECT):
                found = f"{decoding.language!r}, and {self._name} knows English alone"
                raise UsageError(Problem("--language", found, "en"))
            return settings
        if decoding.code != DETECT:
            languages = getattr(config, "lang_to_id", {})
            if f"<|{decoding.code}|>" not in languages:
                known = ", ".join(sorted(token.strip("<|>") for token in languages))
                raise UsageError(
                    Problem("--language", repr(decoding.language), f"{DETECT} or one of {known}")
                )
            settings["language"] = decoding.code
        return settings | {"task": "transcribe"}

    def transcribe_all(self, clips: Sequence[Source[ClipFiles]], batch: int) -> Iterator[tuple[Clip, str]]:
        """Each clip with its text: the short ones first, `batch` at a time, in their order."""
        most = self._extractor.n_samples
        short = [clip for clip in clips if clip.size <= most]
        groups = [short[start : start + batch] for start in range(0, len(short), batch)]
        groups += [[clip] for clip in clips if clip.size > most]
        # The sound of the next group is decoded while the model works.
        for group in run_ahead(read_sounds, groups, 1):
            yield from zip(group, self._transcribe(group), strict=True)

    def _transcribe(self, clips: Sequence[Clip]) -> list[str]:
        """Their texts; either all of them fit 30 s, or it is one."""
        waveforms = [clip.waveform for clip in clips]
        long = len(waveforms[0]) > self._extractor.n_samples
        whole = {"truncation": False, "padding": "longest", "return_attention_mask": True} if long else {}
        inputs = self._extractor(waveforms, sampling_rate=SAMPLE_RATE, return_tensors="pt", **whole)
        where = f"{self._name}, clip {clips[0].filename}"
        try:
            with memory_errors(), torch.inference_mode(), autocast(self._precision, self._device):
                tokens = self._model.generate(
                    **inputs.to(self._device), return_timestamps=long, **self._settings
                )
        except torch.OutOfMemoryError as error:
            step = "use a smaller --batch, or a device with more memory"
            raise WeightsError(Problem(where, "does not fit the device's memory", next_step=step)) from error
        except EmiError:
            raise
        except Exception as error:  # whatever a model with half a configuration raises
            found = f"does not run: {type(error).__name__}: {shorten_error(error)}"
            raise WeightsError(
                Problem(where, found, "a Whisper model with its generation_config.json")
            ) from error
        texts = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]


def read_sounds(group: Sequence[Source[ClipFiles]]) -> list[Clip]:
    """The clips of a group, whole."""
    return [read_clip(clip.content, WHOLE) for clip in group]
