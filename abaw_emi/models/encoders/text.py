"""A text encoder of transformers as part of the model: tokens to hidden states."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from abaw_emi.core.errors import Problem, WeightsError
from abaw_emi.models.encoders.base import find_code

TEXT_ENCODERS = ("bert", "roberta", "xlm-roberta", "distilbert", "gte")
"""Types of model that can be trained along; MiniLM is a BERT."""


class TextEncoder(nn.Module):
    """Tokens (B, F) and their numbers (B,) to hidden states (B, F, H), whatever else is in the batch.

    Args:
        config: the encoder's `config.json`.

    Attributes:
        model: without what would pool the states.

    Raises:
        WeightsError: it is of no type that is known here.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        from transformers import AutoModel  # which AutoConfig, and so `models.config`, must not need

        where = "text encoder config.json"
        problems = find_code(config, where)
        if config.get("model_type") not in TEXT_ENCODERS:
            found = f"model_type is {config.get('model_type')!r}"
            problems.append(Problem(where, found, f"one of {', '.join(TEXT_ENCODERS)}"))
        if problems:
            raise WeightsError(problems)
        settings = AutoConfig.for_model(**config)
        # Not in the dtype of its file: half precision is asked for by --precision.
        self.model: nn.Module = AutoModel.from_config(settings, dtype=torch.float32)
        if hasattr(self.model, "pooler"):
            self.model.pooler = None
        self._padding: int = settings.pad_token_id or 0

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(B, F) int64 to (B, F, H), meaningless beyond a clip's tokens, as is a clip without any."""
        real = torch.arange(tokens.shape[1], device=tokens.device) < lengths.clamp(min=1)[:, None]
        # RoBERTa counts positions by what is no padding.
        tokens = torch.where(real, tokens, self._padding)
        states: Tensor = self.model(input_ids=tokens, attention_mask=real.long()).last_hidden_state
        return states


def find_width(config: dict[str, Any]) -> int:
    """H, of an encoder of this `config.json`."""
    return int(AutoConfig.for_model(**config).hidden_size)
