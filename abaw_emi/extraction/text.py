"""One row a token of a transcript, from any text encoder of transformers: its hidden states.

The tokens are all that the encoder's own tokenizer makes, those that it puts before and after the words
included. An empty transcript has no features: the clip lacks the modality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from abaw_emi.core.constants import OnBadClip, Precision
from abaw_emi.core.errors import FeatureError, Problem, gather
from abaw_emi.core.hashing import sha256
from abaw_emi.extraction.encode import Float32, Source, Sources, cut
from abaw_emi.features.files import read_bytes
from abaw_emi.features.transcripts import parse_transcript
from abaw_emi.models.device import autocast
from abaw_emi.models.hub import Pretrained, load_model, load_part


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
    found: list[Source[str]] = []
    missing: list[str] = []
    skipped: dict[str, list[Problem]] = {}
    for filename in ids:
        path = transcripts.get(filename)
        if path is None:
            missing.append(filename)
            continue
        problems: list[Problem] = []
        with gather(problems):
            content = read_bytes(path)
            text = parse_transcript(path, content)
            if text:
                found.append(Source(filename, sha256(content), len(text), text))
            else:
                missing.append(filename)
        if problems:
            skipped[filename] = problems
    if skipped and on_bad == "error":
        raise FeatureError(problem for problems in skipped.values() for problem in problems)
    return Sources(found, missing, skipped)


class TextEncoder:
    """Turns transcripts into frames.

    Args:
        pretrained: where the encoder lies.
        layer: whose hidden states are asked for; None for the last, as the model returns them.
        batch: transcripts that run side by side.
        device: where it runs.
        precision: of its arithmetic.

    Attributes:
        longest: tokens that the encoder reads, None without an end.
        cut: ids of the clips that said more.

    Raises:
        WeightsError: it cannot be loaded.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        *,
        layer: int | None,
        batch: int,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self._tokenizer = load_part(AutoTokenizer, pretrained)
        self._tokenizer.padding_side = "right"
        model: Any = load_model(AutoModel, pretrained, ("pooler.",))
        model = model.get_encoder() if model.config.is_encoder_decoder else model
        self._model = getattr(model, "text_model", model).to(device)
        self.longest = _find_longest(self._tokenizer, model.config)
        self.cut: list[str] = []
        self._layer = layer
        # Without a mask, words would see what the batch is padded with.
        masked = (
            self._tokenizer.pad_token is not None and "attention_mask" in self._tokenizer.model_input_names
        )
        self._batch = batch if masked else 1
        self._device = device
        self._precision = precision

    def group(self, sources: Sequence[Source[str]]) -> list[list[Source[str]]]:
        """Transcripts of similar lengths, the longest first."""
        return cut(sources, self._batch)

    def prepare(self, sources: Sequence[Source[str]]) -> Tokens:
        """The tokens of each, padded."""
        encoded = [
            self._tokenizer(source.content, truncation=self.longest is not None, max_length=self.longest)
            for source in sources
        ]
        if self.longest is not None:
            for source, tokens in zip(sources, encoded, strict=True):
                if len(tokens["input_ids"]) == self.longest and self._count(source.content) > self.longest:
                    self.cut.append(source.filename)
        counts = [len(tokens["input_ids"]) for tokens in encoded]
        if len(encoded) == 1:
            return Tokens({key: torch.tensor([value]) for key, value in encoded[0].items()}, counts)
        return Tokens(dict(self._tokenizer.pad(encoded, return_tensors="pt")), counts)

    def encode(self, prepared: Tokens) -> list[Float32]:
        """Hidden states (tokens, D) of each transcript."""
        with torch.inference_mode(), autocast(self._precision, self._device):
            output = self._model(
                **{key: value.to(self._device) for key, value in prepared.inputs.items()},
                output_hidden_states=self._layer is not None,
            )
        states = output.last_hidden_state if self._layer is None else output.hidden_states[self._layer]
        frames = states.float().cpu().numpy()
        return [row[:count] for row, count in zip(frames, prepared.counts, strict=True)]

    def _count(self, text: str) -> int:
        return len(self._tokenizer(text)["input_ids"])


def _find_longest(tokenizer: Any, config: Any) -> int | None:
    """Tokens that an encoder reads: what its tokenizer says, else as many as it knows positions."""
    if tokenizer.model_max_length < 1_000_000:  # transformers' word for "not told" is 1e30
        return int(tokenizer.model_max_length)
    positions = getattr(config, "max_position_embeddings", None)
    return None if positions is None else int(positions)
