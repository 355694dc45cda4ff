"""Two tiny encoders in the files of the hub, so that presets of pretrained encoders run on the demo's corpus.

    folder/text/      a BERT of word pieces that knows every word of the demo's transcripts
    folder/speech/    a wav2vec 2.0 with a VAD head, with the names of audeering's weights

Their weights are random: they know nothing until they are trained. Same files each time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    PreTrainedConfig,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from abaw_emi.demo.modalities import WORDS

_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", ".", *WORDS)
_MAX_TOKENS = 128
_SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


def write_encoders(folder: Path) -> None:
    """Writes `folder/text` and `folder/speech`; torch's random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        _write_text(folder / "text")
        _write_speech(folder / "speech")


def _write_text(folder: Path) -> None:
    vocab = {token: number for number, token in enumerate(_TOKENS)}
    BertTokenizer(vocab=vocab, model_max_length=_MAX_TOKENS).save_pretrained(folder)
    config = BertConfig(**_SIZE, vocab_size=len(vocab), max_position_embeddings=_MAX_TOKENS, pad_token_id=0)
    _save(BertModel(config, add_pooling_layer=False), config, folder)


def _write_speech(folder: Path) -> None:
    config = Wav2Vec2Config(
        **_SIZE,
        conv_dim=[16] * 7,
        conv_bias=True,
        feat_extract_norm="layer",  # this and the next as in audeering's
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    config.num_labels = 3  # arousal, dominance, valence
    width = config.hidden_size
    parts = nn.ModuleDict(
        {
            "wav2vec2": Wav2Vec2Model(config),
            "classifier": nn.ModuleDict({"dense": nn.Linear(width, width), "out_proj": nn.Linear(width, 3)}),
        }
    )
    _save(parts, config, folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)


def _save(model: nn.Module, config: PreTrainedConfig, folder: Path) -> None:
    config.save_pretrained(folder)
    save_file(model.state_dict(), folder / "model.safetensors", {"format": "pt"})
