"""Frames of sound from any encoder of transformers that reads a waveform, and from Whisper's.

A clip's frames do not depend on the clips beside it. Encoders that normalise each frame ("layer") run as a
padded batch with an attention mask, which equals running each clip alone. All others (those that normalise
over time, and data2vec, whose later positional convolutions see what padding has become) are given only clips
of equal length at a time. Whisper reads 30 s of everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModel

from abaw_emi.audio.cache import read_split_clips
from abaw_emi.audio.clips import Clip
from abaw_emi.core.arrays import Float32
from abaw_emi.core.constants import SAMPLE_RATE, OnBadClip
from abaw_emi.core.errors import Problem, UsageError, WeightsError
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.extraction.encode import EncoderSettings, FrameEncoder, Source, Sources, cut
from abaw_emi.models.hub import Pretrained
from abaw_emi.models.load import load_model, load_part

_MASKED = frozenset({"wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat"})
"""Types of model that read a mask everywhere; each is tested."""

_WAVEFORM, _WHISPER = "Wav2Vec2FeatureExtractor", "WhisperFeatureExtractor"
_FILTER_BANK = "SeamlessM4TFeatureExtractor"

_WHISPER_STRIDE = 2
"""Of the convolutions of Whisper's encoder: a frame of it is two of its spectrogram."""

SoundSource: TypeAlias = Source[Clip]


@dataclass(frozen=True, slots=True)
class Sounds:
    """Clips as the encoder reads them, (B, T) or spectrograms, and their lengths in samples.

    Attributes:
        mask: (B, F), which frames of a filter bank count.
    """

    values: Tensor
    lengths: list[int]
    mask: Tensor | None = None


def read_sounds(
    data: DataFolder, ids: Sequence[str], max_seconds: float, on_bad: OnBadClip, reporter: Reporter
) -> Sources[Clip]:
    """The sound of the clips, from the cache, cut to `max_seconds`.

    Raises:
        ClipError: with `on_bad="error"`, every problem of every clip.
    """
    clips = read_split_clips(data, ids, max_seconds, on_bad, reporter)
    found = [Source(clip.filename, clip.content_hash, clip.samples, clip) for clip in clips.clips]
    return Sources(found, [], clips.skipped)


class AudioEncoder(FrameEncoder[Clip, Sounds]):
    """Turns sounds into frames.

    Raises:
        WeightsError: it cannot be loaded, or reads no sound in a way that is known here.
        UsageError: it cannot read that much sound.
    """

    def __init__(self, pretrained: Pretrained, settings: EncoderSettings) -> None:
        self._extractor = load_part(AutoFeatureExtractor, pretrained)
        self._form = type(self._extractor).__name__
        if self._form not in (_WAVEFORM, _WHISPER, _FILTER_BANK):
            found = f"its pre-processor is a {self._form}"
            expected = f"{_WAVEFORM}, {_WHISPER} or {_FILTER_BANK}"
            raise WeightsError(Problem(pretrained.name, found, expected))
        if self._extractor.sampling_rate != SAMPLE_RATE:
            found = f"reads sound at {self._extractor.sampling_rate} Hz"
            raise WeightsError(Problem(pretrained.name, found, f"{SAMPLE_RATE} Hz"))
        if self._form == _WHISPER and settings.max_seconds > self._extractor.chunk_length:
            expected = f"at most {self._extractor.chunk_length}, which is what Whisper reads"
            raise UsageError(Problem("--max-seconds", f"{settings.max_seconds:g}", expected))
        model: Any = load_model(AutoModel, pretrained)
        config = model.config
        super().__init__(pretrained, settings, model.get_encoder() if config.is_encoder_decoder else model)
        self._masked = (
            config.model_type in _MASKED
            and config.feat_extract_norm == "layer"
            and not getattr(config, "add_adapter", False)
            and not getattr(config, "conv_pos_batch_norm", False)  # HuBERT's: turns zeros into something else
        )

    def group(self, sources: Sequence[SoundSource]) -> list[list[SoundSource]]:
        """Clips of similar lengths, or where padding would matter of equal ones, the longest first."""
        if self._masked or self._form == _WHISPER:
            return super().group(sources)
        ordered = [source for group in cut(sources, 1) for source in group]
        alike = [list(same) for _, same in groupby(ordered, key=lambda source: source.size)]
        return [group for same in alike for group in cut(same, self._settings.batch)]

    def prepare(self, sources: Sequence[SoundSource]) -> Sounds:
        """The waveforms as the encoder's own pre-processor leaves each of them alone, padded with zeros."""
        waveforms = [source.content.waveform for source in sources]
        lengths = [len(waveform) for waveform in waveforms]
        if self._form == _WHISPER:
            inputs = self._extractor(waveforms, sampling_rate=SAMPLE_RATE, return_tensors="pt")
            return Sounds(inputs["input_features"], lengths)
        if self._form == _FILTER_BANK:  # of clips of equal length
            inputs = self._extractor(waveforms, sampling_rate=SAMPLE_RATE, return_tensors="pt")
            return Sounds(inputs["input_features"], lengths, inputs["attention_mask"])
        values = torch.zeros(len(waveforms), max(lengths))
        for row, waveform in zip(values, waveforms, strict=True):
            inputs = self._extractor(waveform, sampling_rate=SAMPLE_RATE, return_tensors="np")
            row[: len(waveform)] = torch.from_numpy(np.asarray(inputs["input_values"][0], np.float32))
        return Sounds(values, lengths)

    def encode(self, prepared: Sounds) -> list[Float32]:
        """Frames (T, D) of each clip: 50 a second for wav2vec 2.0 and similar models, and for Whisper."""
        inputs = {"input_values" if self._form == _WAVEFORM else "input_features": prepared.values}
        if prepared.mask is not None:
            inputs["attention_mask"] = prepared.mask
        lengths = torch.tensor(prepared.lengths)
        padded = self._form == _WAVEFORM and min(prepared.lengths) < prepared.values.shape[1]
        if padded:
            places = torch.arange(prepared.values.shape[1])
            inputs["attention_mask"] = (places < lengths[:, None]).long()
        frames: list[Float32] = list(self._states(self._run(**inputs)).float().cpu().numpy())
        if self._form == _WHISPER:
            hop = self._extractor.hop_length * _WHISPER_STRIDE
            return [row[: -(-length // hop)] for row, length in zip(frames, prepared.lengths, strict=True)]
        if prepared.mask is not None:
            counts = prepared.mask.sum(dim=1).tolist()
            return [row[:count] for row, count in zip(frames, counts, strict=True)]
        if padded:
            counts = self._model._get_feat_extract_output_lengths(lengths).tolist()
            return [row[:count] for row, count in zip(frames, counts, strict=True)]
        return frames
