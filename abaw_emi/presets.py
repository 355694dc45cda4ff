"""Named runs: the paper's recipe, its released code's, and the demo's.

Where paper and released code differ, each is a preset of its own (README, "Paper and released code").
"""

from __future__ import annotations

from dataclasses import replace

from abaw_emi.config import ModelConfig, RunConfig, TrainingConfig
from abaw_emi.errors import Problem, UsageError

_PAPER = RunConfig()

PRESETS: dict[str, RunConfig] = {
    # PAPER, section 4 and Table 1: no LSTM dropout, early stopping. Validation .386, test .461.
    "paper": _PAPER,
    # PAPER, Table 1, "with dropout": 10 % on the LSTM. Validation .389, test .465.
    "paper-dropout": replace(_PAPER, model=ModelConfig(lstm_dropout=0.1)),
    # CODE: never stops early, clips gradient values at 100, fp16 with a loss scaler.
    "released": replace(_PAPER, training=TrainingConfig(patience=0, clip_grad_value=100.0, precision="fp16")),
    # Ours, for the demo and for tests: minutes on two cores, nothing to download.
    "tiny": RunConfig(
        model=ModelConfig(encoder="logmel", vad_head=False),
        training=TrainingConfig(epochs=12, batch_size=16, group_size=16, learning_rate=4e-3, patience=6),
    ),
}


def find_preset(name: str) -> RunConfig:
    """The preset called `name`; UsageError, naming the known ones, where there is none."""
    if name not in PRESETS:
        raise UsageError(Problem("--preset", f"no preset {name!r}", f"one of {', '.join(PRESETS)}"))
    return PRESETS[name]
