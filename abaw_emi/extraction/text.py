"""One row a token of a transcript, from any text encoder of transformers: its hidden states.

The tokens are all that the encoder's own tokenizer makes, those that it puts before and after the words
included. An empty transcript has no features: the modality is missing for that clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from abaw_emi.core.arrays import Float32
from abaw_emi.core.constants import OnBadClip
from abaw_emi.core.errors import Problem
from abaw_emi.core.hashing import sha256
from abaw_emi.data.align import list_ids
from abaw_emi.extraction.encode import EncoderSettings, FrameEncoder, Source, Sources, read_sources
from abaw_emi.features.files import read_feature_file
from abaw_emi.features.transcripts import parse_transcript
from abaw_emi.models.hub import Pretrained
from abaw_emi.models.load import find_longest, load_model, load_part


@dataclass(frozen=True, slots=True)
class Tokens:
    """Transcripts as the encoder reads them, each (B, tokens), and how many tokens each has."""

    inputs: dict[str, Tensor]
    counts: list[int]


def read_texts(ids: Sequence[str], transcripts: Mapping[str, Path], on_bad: OnBadClip) -> Sources[str]:
    """The words of the clips; a clip whose transcript is empty has none.

    Raises:
        FeatureError: with `on_bad="error"`, every transcript that cannot be read.
    """

    def read(filename: str) -> Source[str] | None:
        path = transcripts.get(filename)
        if path is None:
            return None
        content = read_feature_file(path)
        text = parse_transcript(path, content)
        return Source(filename, sha256(content), len(text), text) if text else None

    return read_sources(ids, read, on_bad)


class TextFeatureEncoder(FrameEncoder[str, Tokens]):
    """Turns transcripts into frames.

    Raises:
        WeightsError: it cannot be loaded.
    """

    def __init__(self, pretrained: Pretrained, settings: EncoderSettings) -> None:
        self._tokenizer = load_part(AutoTokenizer, pretrained)
        self._tokenizer.padding_side = "right"
        model: Any = load_model(AutoModel, pretrained, ("pooler.",))
        model = model.get_encoder() if model.config.is_encoder_decoder else model
        # Without a mask, words would see what the batch is padded with.
        masked = (
            self._tokenizer.pad_token is not None and "attention_mask" in self._tokenizer.model_input_names
        )
        super().__init__(
            pretrained,
            settings if masked else replace(settings, batch=1),
            getattr(model, "text_model", model),
        )
        self._longest = find_longest(self._tokenizer, model.config)
        self._cut: list[str] = []  # ids of the clips that said more

    def warnings(self) -> list[Problem]:
        """Which transcripts are longer than what the encoder reads."""
        if not self._cut:
            return []
        found = list_ids(sorted(set(self._cut)), f"say more than the {self._longest} tokens that it reads")
        return [Problem(self._name, found, next_step="the beginning was encoded")]

    def prepare(self, sources: Sequence[Source[str]]) -> Tokens:
        """The tokens of each, padded."""
        encoded = [
            self._tokenizer(source.content, truncation=self._longest is not None, max_length=self._longest)
            for source in sources
        ]
        if self._longest is not None:
            for source, tokens in zip(sources, encoded, strict=True):
                if len(tokens["input_ids"]) == self._longest and self._count(source.content) > self._longest:
                    self._cut.append(source.filename)
        counts = [len(tokens["input_ids"]) for tokens in encoded]
        if len(encoded) == 1:
            return Tokens({key: torch.tensor([value]) for key, value in encoded[0].items()}, counts)
        return Tokens(dict(self._tokenizer.pad(encoded, return_tensors="pt")), counts)

    def encode(self, prepared: Tokens) -> list[Float32]:
        """Hidden states (tokens, D) of each transcript."""
        frames = self._states(self._run(**prepared.inputs)).float().cpu().numpy()
        return [row[:count] for row, count in zip(frames, prepared.counts, strict=True)]

    def _count(self, text: str) -> int:
        return len(self._tokenizer(text)["input_ids"])
