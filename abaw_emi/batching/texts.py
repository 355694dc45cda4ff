"""Transcripts as a text encoder reads them: the numbers of their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from abaw_emi.config.parts import FeatureConfig
from abaw_emi.core.cache import CachedArray
from abaw_emi.core.constants import OnBadClip
from abaw_emi.core.errors import EmiError, FeatureError, Problem
from abaw_emi.core.hashing import sha256
from abaw_emi.core.ids import summarise
from abaw_emi.core.progress import Reporter
from abaw_emi.data.align import list_ids
from abaw_emi.data.folder import DataFolder
from abaw_emi.features.files import read_feature_file
from abaw_emi.features.reader import FeatureClip
from abaw_emi.features.transcripts import find_transcripts, parse_transcript

_SHOWN = 20
"""Clips whose transcripts were cut that a warning names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSpec:
    """How a system reads transcripts.

    Attributes:
        name: of the modality.
        max_tokens: what is read of each.
        digest: SHA-256 of the tokenizer.
        tokenizer: of transformers.
    """

    name: str
    max_tokens: int
    digest: str
    tokenizer: Any = field(compare=False, repr=False)

    @classmethod
    def of(cls, feature: FeatureConfig, tokenizer: Any) -> Self:
        """The spec of a branch with a text encoder."""
        digest = sha256(tokenizer.backend_tokenizer.to_str().encode())
        return cls(name=feature.name, max_tokens=feature.max_tokens, digest=digest, tokenizer=tokenizer)

    def read(self, filename: str, text: str) -> tuple[FeatureClip, bool]:
        """The tokens of a text, (T, 1) as float32, which holds them exactly; and whether it was cut."""
        tokens = self.tokenizer(text)["input_ids"]
        cut = len(tokens) > self.max_tokens
        if cut:
            tokens = self.tokenizer(text, truncation=True, max_length=self.max_tokens)["input_ids"]
        array = np.asarray(tokens, np.float32)[:, None]
        return FeatureClip(filename, {self.name: CachedArray.hold(array)}, sha256(array.tobytes())), cut


def read_texts(
    data: DataFolder, ids: Sequence[str], spec: TextSpec, on_bad: OnBadClip, reporter: Reporter
) -> tuple[dict[str, FeatureClip], dict[str, tuple[Problem, ...]]]:
    """The tokens of the clips that have a transcript, and why others could not be read, both by id.

    An empty transcript is one: nothing is said in that clip.

    Args:
        data: the data folder.
        ids: the clips.
        spec: how transcripts are read.
        reporter: warns of transcripts that were cut.
        on_bad: "skip" warns of transcripts that cannot be read.

    Raises:
        CorpusError: a folder cannot be listed.
        FeatureError: transcripts cannot be read, all of them together.
    """
    found: dict[str, FeatureClip] = {}
    bad: dict[str, tuple[Problem, ...]] = {}
    cut: list[str] = []
    paths = find_transcripts(data.root, data.features)
    for filename in ids:
        if filename not in paths:
            continue
        try:
            text = parse_transcript(paths[filename], read_feature_file(paths[filename]))
            found[filename], was_cut = spec.read(filename, text)
        except EmiError as error:
            bad[filename] = error.problems
        else:
            cut += [filename] * was_cut
    if bad and on_bad == "error":
        raise FeatureError(summarise(bad))
    reporter.warn(summarise(bad))
    if cut:
        what = list_ids(cut, f"of {len(found):,} transcripts have more than {spec.max_tokens} tokens", _SHOWN)
        reporter.warn([Problem(spec.name, what, next_step="the beginning is read")])
    return found, bad


def join_texts(
    features: Mapping[str, FeatureClip], texts: Mapping[str, FeatureClip]
) -> dict[str, FeatureClip]:
    """The features of each clip with its tokens beside them."""
    joined = dict(features)
    for filename, text in texts.items():
        other = joined.get(filename)
        if other is None:
            joined[filename] = text
        else:
            both = sha256(f"{other.source_hash} {text.source_hash}".encode())
            joined[filename] = FeatureClip(filename, {**other.arrays, **text.arrays}, both)
    return joined
