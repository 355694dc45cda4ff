"""Named runs: the paper's systems, its released code's, its rivals', and the demo's.

Where paper and released code differ, each is a preset of its own (README, "Paper and released code"). Of the
rivals, what their papers and code say is here; what they leave open, or did with weights that nobody else
has, is ours, and marked so. `published` has the numbers that they reached.

Sources: PAPER and CODE as in `core.constants`; the others beside each preset.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from abaw_emi.config.parts import FeatureConfig, FusionConfig
from abaw_emi.config.run import DataConfig, ModelConfig, RunConfig, TrainingConfig
from abaw_emi.core.errors import Problem, UsageError

_PAPER = RunConfig()

_W2V2_LARGE = "facebook/wav2vec2-large"
_XLSR = "facebook/wav2vec2-large-xlsr-53"


def _paper(training: dict[str, Any] | None = None, **parts: Any) -> RunConfig:
    """The paper's recipe with other parts of the model, or other training options."""
    return replace(
        _PAPER, model=replace(_PAPER.model, **parts), training=replace(_PAPER.training, **(training or {}))
    )


def _features(
    *features: FeatureConfig, fusion: FusionConfig | None = None, head: bool = True, **training: Any
) -> RunConfig:
    """A system on feature folders alone: cheap, so in batches of whole groups, and with a higher rate."""
    values = {"learning_rate": 1e-3, "batch_size": 64, "group_size": 64, "epochs": 30, **training}
    model = ModelConfig(
        encoder="none",
        vad_head=False,
        regression_head=head,
        features=features,
        fusion=fusion or FusionConfig(),
    )
    return RunConfig(model=model, training=TrainingConfig(**values))


_APART = FusionConfig(kind="mean", one_at_a_time=True)
"""Predictors that are trained apart and averaged."""

# PAPER, section 4: the audio model's own parts, mean and last LSTM state, on faces (CODE, commit 934e473).
_FACES = FeatureConfig(name="vit", temporal=("lstm",), layers=2, pooling="mean+last")

# Of the official baselines, no more is known than "3-layer GRU" and "linear" (PAPER, section 5): sizes are
# ours.
_BASELINE_AUDIO = FeatureConfig(name="wav2vec2")
_BASELINE_VISION = FeatureConfig(name="vit", temporal=("gru",), layers=3, hidden_size=256, pooling="last")

# Savchenko, arXiv 2403.11590, and github.com/sb-ai-lab/EmotiEffLib, ABAW6/eri.ipynb: four statistics of
# frozen descriptors, batches of 512, one minus the batch's correlation. Their face models are not among
# transformers': the supplied ViT features stand in. They end in a sigmoid, and weigh faces .1 and audio .9.
_STATISTICS = (
    FeatureConfig(name="vit", pooling="statistics"),
    FeatureConfig(name="wav2vec2", pooling="statistics"),
)
_BY_CORRELATION: dict[str, Any] = {"loss": "pearson", "batch_size": 512, "group_size": 512}

# Yu et al., arXiv 2403.11757, and github.com/huiqi2000/EMI: 5 levels of 128 channels, kernel 3; 2 pre-norm
# layers of 4 heads on vision; 300 frames; Adam with weight decay 1e-3. Their faces are ResNet18 and OpenFace
# features (546 wide): the supplied ViT features stand in. Their convolutions are causal, and they end in a
# sigmoid.
_TCN: dict[str, Any] = {"hidden_size": 128, "layers": 5, "kernel": 3, "dropout": 0.2}

# Zhang et al., arXiv 2403.10825, gives no sizes, and its face model is not public: all sizes are ours.
_ENCODER: dict[str, Any] = {"temporal": ("transformer",), "hidden_size": 256, "heads": 4, "dropout": 0.1}

PRESETS: dict[str, RunConfig] = {
    # PAPER, section 4 and Table 1: no LSTM dropout, early stopping. Validation .386, test .461.
    "paper": _PAPER,
    # PAPER, Table 1, "with dropout": 10 % on the LSTM. Validation .389, test .465.
    "paper-dropout": _paper(lstm_dropout=0.1),
    # PAPER, Table 1, "longer", on train+val: .554 on test. How long is not known: 60 epochs is a guess.
    "paper-longer": _paper({"epochs": 60}),
    # CODE: never stops early, clips gradient values at 100, fp16 with a loss scaler.
    "released": _paper({"patience": 0, "clip_grad_value": 100.0, "precision": "fp16"}),
    # PAPER, Table 1, "frozen": only what follows the encoder is trained. Rate, epochs: CODE, commit 09f2b8a.
    "frozen": _paper({"learning_rate": 1e-3, "epochs": 10}, freeze_encoder=True),
    # PAPER, Table 2: parts of the model switched off, and other backbones.
    "w2v2-gv": _paper(backbone=_W2V2_LARGE, vad_head=False, lstm=False, regression_head=False),
    "xlsr-gv": _paper(backbone=_XLSR, vad_head=False, lstm=False, regression_head=False),
    "gv": _paper(vad_head=False, lstm=False, regression_head=False),
    "gv-head": _paper(vad_head=False, lstm=False),
    "head-lstm": _paper(vad_head=False, global_vector=False),
    "gv-head-lstm": _paper(vad_head=False),
    "head-lstm-vad": _paper(global_vector=False),
    # PAPER, section 5: losses that gained nothing, and padding without a mask.
    "paper-ccc": _paper({"loss": "ccc"}),
    "paper-pearson": _paper({"loss": "pearson"}),
    "zero-padding": _paper(pad_seconds=12.0),
    # PAPER, Table 1: faces alone and with the sound. Their face models were trained along; here the supplied
    # ViT features are read, and by Filename (CODE took faces by row: commit 934e473).
    "vision": _features(_FACES, learning_rate=1e-4),
    "vision-audio": _paper(features=(_FACES,), fusion=FusionConfig(modality_dropout=0.1)),
    # PAPER, section 5: two thirds of train against the last third, speakers on both sides: about .18.
    "vision-within-train": replace(_features(_FACES, learning_rate=1e-4), data=DataConfig(fold="3/3")),
    "baseline-audio": _features(_BASELINE_AUDIO, head=False),
    # MimicMetrics, arXiv 2605.21869, poster: the supplied features with an LSTM; its sizes are ours.
    "baseline-audio-lstm": _features(
        replace(_BASELINE_AUDIO, temporal=("lstm",), hidden_size=256, pooling="last"), head=False
    ),
    "baseline-vision": _features(_BASELINE_VISION, head=False),
    "baseline-av": _features(_BASELINE_AUDIO, _BASELINE_VISION, head=False, fusion=_APART),
    "savchenko": _features(
        *_STATISTICS, head=False, fusion=_APART, **_BY_CORRELATION, epochs=100, patience=10
    ),
    "savchenko-mlp": _features(
        *_STATISTICS, fusion=replace(_APART, head_size=64), **_BY_CORRELATION, epochs=20, patience=0
    ),
    "yu": replace(
        _features(
            FeatureConfig(name="vit", temporal=("tcn", "transformer"), **_TCN),
            FeatureConfig(name="wav2vec2", temporal=("tcn",), **_TCN),
            fusion=replace(_APART, head_size=64),
            learning_rate=3e-5,
            batch_size=128,
            group_size=128,
            weight_decay=1e-3,
            epochs=200,
            patience=20,
        ),
        data=DataConfig(max_frames=300),
    ),
    "zhang": _features(
        FeatureConfig(name="vit", **_ENCODER),
        FeatureConfig(name="wav2vec2", **_ENCODER),
        FeatureConfig(name="gte", **_ENCODER),
        fusion=_APART,
        learning_rate=1e-4,
    ),
    # Hallmen et al., arXiv 2504.11460, and github.com/Skyy93/CVPR2025_abaw, branch EMI: the winner of the 8th
    # edition. Their text encoder was trained along; here the features of `abaw-emi extract` are read.
    "text-vision-audio": _paper(
        global_vector=False,
        features=(
            FeatureConfig(name="vit", temporal=("lstm",), hidden_size=768, layers=2, pooling="last"),
            FeatureConfig(name="gte", pooling="first"),
        ),
        fusion=FusionConfig(head_size=1027, modality_dropout=0.1),
    ),
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
