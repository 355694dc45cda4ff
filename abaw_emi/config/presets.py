"""Named runs: the paper's systems, its released code's, its rivals', and the demo's.

Where paper and released code differ, each is a preset of its own (docs/paper.md). Of the rivals, what their
papers and code say is here; what they leave open, or did with weights that nobody else has, is ours, and
marked so. `reproduction.published` has the numbers that they reached.

Sources: PAPER and CODE as in `core.constants`; the others beside each preset.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from abaw_emi.config.model import ModelConfig
from abaw_emi.config.parts import FeatureConfig, FusionConfig
from abaw_emi.config.read import change_config, has_key, list_keys
from abaw_emi.config.run import DataConfig, RunConfig, TrainingConfig
from abaw_emi.core.errors import Problem, UsageError
from abaw_emi.core.suggest import suggest_name

_PAPER = RunConfig()

_W2V2_LARGE = "facebook/wav2vec2-large"
_XLSR = "facebook/wav2vec2-large-xlsr-53"


def _paper(training: dict[str, Any] | None = None, **parts: Any) -> RunConfig:
    """The paper's system with other parts of the model, or other training options."""
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
# frozen descriptors, batches of 512, one minus the batch's correlation, a sigmoid. Their face models
# (hsemotion) are not among transformers': the supplied ViT features stand in. Faces weigh .1, audio .9 there.
_STATISTICS = (
    FeatureConfig(name="vit", pooling="statistics"),
    FeatureConfig(name="wav2vec2", pooling="statistics"),
)
_SIGMOIDS = replace(_APART, head_output="sigmoid")
_BY_CORRELATION: dict[str, Any] = {"loss": "pearson", "batch_size": 512, "group_size": 512}

# Yu et al., arXiv 2403.11757, and github.com/huiqi2000/EMI: 5 levels of 128 channels, kernel 3; 2 pre-norm
# layers of 4 heads and a weighted mean on vision; 300 frames; a sigmoid. What differs: docs/paper.md.
_TCN: dict[str, Any] = {"hidden_size": 128, "layers": 5, "kernel": 3, "dropout": 0.2}

# github.com/Skyy93/CVPR2025_abaw, branch EMI, and abaw/model.py of github.com/ZZZRamsey/
# CVPR_2026_ABAW_10th_EMI, which holds it too: the first token of a text encoder that is trained, frames of a
# ViT-huge (1280 wide), no global vector; batches of 32, AdamW, fp16 with a loss scaler, seed 3407.
_WORDS = FeatureConfig(name="text", backbone="Alibaba-NLP/gte-en-mlm-base", pooling="first")
_WINNER: dict[str, Any] = {"clip_grad_value": 100.0, "precision": "fp16"}

# Zhang et al., arXiv 2403.10825, gives no sizes, and its face model is not public: all sizes are ours.
_ENCODER: dict[str, Any] = {"temporal": ("transformer",), "hidden_size": 256, "heads": 4, "dropout": 0.1}

# Huang et al., arXiv 2603.13760, second of the 10th edition: their sound alone. What is ours: docs/paper.md.
_SOUND_STATES = FeatureConfig(
    name="wavlm-large",
    projection=256,
    projection_norm="first",
    temporal=("gru",),
    bidirectional=True,
    layers=2,
    hidden_size=256,
    dropout=0.2,
    pooling="attention",
    auxiliary_weight=0.028,  # .08 times .35, which we take for that of sound
)

PRESETS: dict[str, RunConfig] = {
    "paper": _PAPER,
    "paper-dropout": _paper(lstm_dropout=0.1),
    "paper-longer": _paper({"epochs": 60}),
    "released": _paper({"patience": 0, "clip_grad_value": 100.0, "precision": "fp16"}),
    "frozen": _paper({"learning_rate": 1e-3, "epochs": 10}, freeze_encoder=True),
    "w2v2-gv": _paper(backbone=_W2V2_LARGE, vad_head=False, lstm=False, regression_head=False),
    "xlsr-gv": _paper(backbone=_XLSR, vad_head=False, lstm=False, regression_head=False),
    "gv": _paper(vad_head=False, lstm=False, regression_head=False),
    "gv-head": _paper(vad_head=False, lstm=False),
    "head-lstm": _paper(vad_head=False, global_vector=False),
    "gv-head-lstm": _paper(vad_head=False),
    "head-lstm-vad": _paper(global_vector=False),
    "paper-ccc": _paper({"loss": "ccc"}),
    "paper-pearson": _paper({"loss": "pearson"}),
    "zero-padding": _paper(pad_seconds=12.0),
    "vision": _features(_FACES, learning_rate=1e-4),
    "vision-audio": _paper(features=(_FACES,), fusion=FusionConfig(modality_dropout=0.1)),
    "vision-within-train": replace(_features(_FACES, learning_rate=1e-4), data=DataConfig(fold="3/3")),
    "baseline-audio": _features(_BASELINE_AUDIO, head=False),
    "baseline-audio-lstm": _features(
        replace(_BASELINE_AUDIO, temporal=("lstm",), hidden_size=256, pooling="last"), head=False
    ),
    "baseline-vision": _features(_BASELINE_VISION, head=False),
    "baseline-av": _features(_BASELINE_AUDIO, _BASELINE_VISION, head=False, fusion=_APART),
    "savchenko": _features(
        *_STATISTICS, head=False, fusion=_SIGMOIDS, **_BY_CORRELATION, epochs=100, patience=10
    ),
    "savchenko-mlp": _features(
        *_STATISTICS, fusion=replace(_SIGMOIDS, head_size=64), **_BY_CORRELATION, epochs=20, patience=0
    ),
    "yu": replace(
        _features(
            FeatureConfig(name="vit", temporal=("tcn", "transformer"), pooling="attention", **_TCN),
            FeatureConfig(name="wav2vec2", temporal=("tcn",), **_TCN),
            fusion=replace(_SIGMOIDS, head_size=64),
            learning_rate=3e-5,
            batch_size=128,
            group_size=128,
            weight_decay=1e-3,
            optimizer="adam",
            schedule="plateau",
            warmup_epochs=0.0,
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
    "text-vision-audio": _paper(
        global_vector=False,
        features=(
            FeatureConfig(name="vit", temporal=("lstm",), hidden_size=768, layers=2, pooling="last"),
            FeatureConfig(name="gte", pooling="first"),
        ),
        fusion=FusionConfig(head_size=1027, modality_dropout=0.1),
    ),
    "winner-2025": _paper(
        {**_WINNER, "patience": 0},
        global_vector=False,
        features=(
            FeatureConfig(
                name="vit-huge", max_frames=400, temporal=("lstm",), hidden_size=768, layers=2, pooling="last"
            ),
            _WORDS,
        ),
        fusion=FusionConfig(head_size=1027),
    ),
    "winner-2026": _paper(
        {**_WINNER, "epochs": 50, "patience": 5},
        global_vector=False,
        lstm=False,
        features=(FeatureConfig(name="vit-base", max_frames=400), _WORDS),
        fusion=FusionConfig(kind="text-anchored", modality_dropout=0.1),
    ),
    "casia-2026": _features(
        _SOUND_STATES,
        fusion=FusionConfig(
            head_size=256, head_norm=True, head_activation="gelu", head_dropout=0.2, head_output="sigmoid"
        ),
        loss="mse+0.1*pearson",
        ramp_epochs=8,
        ema_decay=0.999,
        clip_grad_norm=1.0,
        patience=8,
    ),
    "text": _features(_WORDS, learning_rate=1e-4, batch_size=32, group_size=8),
    "hubert": _paper(backbone="facebook/hubert-large-ll60k", vad_head=False),
    "wavlm": _paper(backbone="microsoft/wavlm-large", vad_head=False),
    "whisper": _paper(backbone="openai/whisper-medium", vad_head=False),
    "tiny": RunConfig(
        model=ModelConfig(encoder="logmel", vad_head=False),
        training=TrainingConfig(epochs=12, batch_size=16, group_size=16, learning_rate=4e-3, patience=6),
    ),
}

SUMMARIES: dict[str, str] = {
    "paper": "PAPER, section 4: all trained, no LSTM dropout, early stopping; valid .386, test .461",
    "paper-dropout": "PAPER, Table 1: 10 % dropout on the LSTM; valid .389, test .465",
    "paper-longer": "PAPER, Table 1, for train+val: test .554; how long is not known, 60 epochs is a guess",
    "released": "CODE: never stops early, clips gradient values at 100, fp16 with a loss scaler",
    "frozen": "PAPER, Table 1: the encoder as it is, no dropouts; rate and epochs of CODE, commit 09f2b8a",
    "w2v2-gv": "PAPER, Table 2: the mean of a wav2vec 2.0 large, not fine-tuned; which one, they do not say",
    "xlsr-gv": "PAPER, Table 2: the mean of a multilingual wav2vec 2.0 (XLSR-53)",
    "gv": "PAPER, Table 2: the global vector alone",
    "gv-head": "PAPER, Table 2: the global vector and the regression head",
    "head-lstm": "PAPER, Table 2: the LSTM and the regression head",
    "gv-head-lstm": "PAPER, Table 2: everything but the VAD head",
    "head-lstm-vad": "PAPER, Table 2: everything but the global vector",
    "paper-ccc": "PAPER, section 5: the concordance correlation as the loss; gained nothing",
    "paper-pearson": "PAPER, section 5: Pearson's correlation as the loss; gained nothing",
    "zero-padding": "PAPER, section 6: zero padding to 12 s without a mask",
    "vision": "PAPER, Table 1: faces alone; theirs were trained along, here the supplied ViT features",
    "vision-audio": "PAPER, Table 1: faces and sound; modality dropout is ours",
    "vision-within-train": "PAPER, section 5: faces, a third of train held out, speakers on both sides; .18",
    "baseline-audio": "official baseline: linear on the mean of the supplied wav2vec2 features",
    "baseline-audio-lstm": "MimicMetrics (arXiv 2605.21869): supplied features with an LSTM; sizes are ours",
    "baseline-vision": "official baseline: a GRU of 3 layers on the supplied ViT features; sizes are ours",
    "baseline-av": "official baseline: the mean of the two, trained apart",
    "savchenko": "arXiv 2403.11590: four statistics of features, linear; other faces: docs/paper.md",
    "savchenko-mlp": "as savchenko, with an MLP of 64 units",
    "yu": "arXiv 2403.11757: temporal convolutions, a transformer; other faces and heads: docs/paper.md",
    "zhang": "arXiv 2403.10825: transformers on faces, sound, text; much is ours: docs/paper.md",
    "text-vision-audio": "arXiv 2504.11460, after the 8th edition's winner; other features: docs/paper.md",
    "winner-2025": "8th edition, test .706: sound and text trained, ViT-huge faces; ours: docs/paper.md",
    "winner-2026": "10th edition, test .708: text looks at sound and faces; ours: docs/paper.md",
    "casia-2026": "arXiv 2603.13760, second of the 10th edition: their sound alone; ours: docs/paper.md",
    "text": "ours: the words alone, their encoder trained",
    "hubert": "ours: the paper's system on HuBERT large, for ensembles of unlike members",
    "wavlm": "ours: the paper's system on WavLM large, for ensembles of unlike members",
    "whisper": "ours: the paper's system on the encoder of Whisper medium, as large as the paper's",
    "tiny": "ours, for the demo: a small encoder on log-mel spectrograms, minutes on two cores",
}
"""What each preset is, and where it comes from, in a line; docs/paper.md and `tables --list` say more."""


def find_preset(name: str, option: str = "--preset") -> RunConfig:
    """The preset called `name`; UsageError, naming the known ones, where there is none."""
    if name not in PRESETS:
        step = suggest_name(name, PRESETS) or "abaw-emi presets lists them"
        raise UsageError(Problem(option, f"no preset {name!r}", next_step=step))
    return PRESETS[name]


def find_presets(
    names: Iterable[str], changes: Sequence[str], option: str = "--presets"
) -> dict[str, RunConfig]:
    """The presets of these names, each with the changes (`--set`) whose keys it has.

    Raises:
        UsageError: no such preset, or a change that no preset takes.
    """
    configs = {name: find_preset(name, option) for name in names}
    for change in changes:
        key = change.partition("=")[0]
        takers = [name for name, config in configs.items() if has_key(config, key)]
        if not takers:
            keys = [key for config in configs.values() for key in list_keys(config)]
            found, step = "not KEY=VALUE of a key that a preset has", suggest_name(key, keys)
            raise UsageError(Problem(f"--set {change}", found, next_step=step))
        for name in takers:
            configs[name] = change_config(configs[name], [change])
    return configs
