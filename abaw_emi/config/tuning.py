"""How a pretrained encoder is trained: dropouts, new weights, frozen layers. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from abaw_emi.config.parts import STRICT, Fraction, Size

_Dropout = Annotated[float, Field(ge=-1, lt=1, strict=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningConfig:
    """How a pretrained encoder is trained; by default as its makers' config says, all of it."""

    __pydantic_config__ = STRICT

    hidden_dropout: _Dropout = -1.0
    """Dropout after attention and after the dense layers of each layer; -1 for the backbone's own."""

    attention_dropout: _Dropout = -1.0
    """Dropout of the attention's weights; -1 for the backbone's own."""

    activation_dropout: _Dropout = -1.0
    """Dropout between the dense layers of each layer; -1 for the backbone's own."""

    feat_proj_dropout: _Dropout = -1.0
    """Dropout of the features that the first layer reads; -1 for the backbone's own. Whisper has none."""

    reset_layers: Size = 0
    """The last so many of a backbone's layers start from new weights (Zhang et al., arXiv 2006.05987)."""

    train_layers: Size = 0
    """Only the last so many layers are trained, and a norm after them; 0 for all (as Lee et al., arXiv
    1911.03090). LayerDrop and SpecAugment stay as they are, without `keep_lower`."""

    keep_lower: bool = False
    """Whether what lies below `train_layers` runs once for each clip, and what it makes is kept in the cache:
    LayerDrop then acts on the trained layers alone, and SpecAugment, which acts below them, is off. Ours."""

    lora_rank: Size = 0
    """Rank of low-rank adapters, which are trained in place of the encoder's weights, and are merged into
    these in the run that is saved; 0 for none (LoRA: Hu et al., arXiv 2106.09685; needs the extra `lora`)."""

    lora_alpha: Size = 0
    """What an adapter adds is multiplied by this over the rank; 0 for the rank."""

    lora_dropout: Fraction = 0.0
    """Dropout of what adapters read."""

    lora_targets: Literal["attention", "feed-forward"] = "attention"
    """Where adapters are: in query and value of attention (Hu et al.), or in both dense layers. WavLM has the
    latter alone."""

    def __post_init__(self) -> None:
        if self.lora_rank and self.reset_layers:
            raise ValueError("reset_layers with lora_rank: new weights would stay untrained")
        for name, value in self.dropouts.items():
            if value < 0:
                raise ValueError(f"{name} {value} is negative; expected a share, or -1: the backbone's own")
        if self.keep_lower and not self.train_layers:
            raise ValueError("keep_lower keeps what lies below the layers that are trained: set train_layers")
        if 0 < self.train_layers < self.reset_layers:
            raise ValueError(
                f"reset_layers {self.reset_layers} are more than train_layers {self.train_layers}: "
                "new weights would stay untrained"
            )

    @property
    def dropouts(self) -> dict[str, float]:
        """The dropouts that are not the backbone's own, by the names in its config."""
        values = {
            "hidden_dropout": self.hidden_dropout,
            "attention_dropout": self.attention_dropout,
            "activation_dropout": self.activation_dropout,
            "feat_proj_dropout": self.feat_proj_dropout,
        }
        return {name: value for name, value in values.items() if value != -1}
