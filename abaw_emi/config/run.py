"""Every option of a run: what is trained, on what, and how.

A `RunConfig` says WHAT a run is; where things lie is said by command-line options. It is read from TOML
or taken from `presets`, changed by `--set KEY=VALUE`, checked once, and travels with the run as
`run.toml`. Sizes of the model follow from the backbone's own config.

Sources of the defaults: PAPER and CODE (see `core.constants`). Where the paper is silent the released
code's value stands, and the comment says so.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tomli_w
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from abaw_emi.config.parts import AugmentationConfig, FeatureConfig, FusionConfig, parse_loss
from abaw_emi.core.constants import MAX_SECONDS, MIN_SAMPLES, SAMPLE_RATE, Precision
from abaw_emi.core.errors import ConfigError, Problem, UsageError
from abaw_emi.data.folds import parse_fold

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_STRICT = ConfigDict(extra="forbid", strict=False, allow_inf_nan=False, use_attribute_docstrings=True)
_Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]
_Count = Annotated[int, Field(ge=1, strict=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """How much of a clip is read."""

    __pydantic_config__ = _STRICT

    max_seconds: Annotated[float, Field(ge=MIN_SAMPLES / SAMPLE_RATE, strict=True)] = MAX_SECONDS
    """A clip is cut to its first seconds."""

    max_frames: _Count = 600
    """Its features are cut to their first frames: 12 s of the supplied wav2vec2 features, 100 s of faces."""

    fold: str = ""
    """ "k/K" holds the k-th of K parts of the training clips out, and validates on it; `--fold` sets it."""

    def __post_init__(self) -> None:
        if self.fold:
            parse_fold(self.fold)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogMelConfig:
    """The small encoder on log-mel spectrograms, for CPUs and the demo; not from the paper."""

    __pydantic_config__ = _STRICT

    n_mels: _Count = 64
    """Mel bands from 0 to 8 kHz."""

    window: Annotated[int, Field(ge=MIN_SAMPLES, multiple_of=2, strict=True)] = 512
    """Samples per spectrum."""

    hidden_size: _Count = 48
    """Width of the hidden states, H."""

    layers: Annotated[int, Field(ge=0, strict=True)] = 2
    """Residual convolutions after the first one."""

    kernel: _Count = 5
    """Frames that a convolution sees; odd."""

    dropout: _Fraction = 0.3
    """Share of the values that each convolution's output forgets while training."""

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is even; expected an odd number of frames")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The parts of the model; with the four switches the rows of PAPER, Table 2 are a matter of config."""

    __pydantic_config__ = _STRICT

    encoder: Literal["wav2vec2", "logmel", "none"] = "wav2vec2"
    """Frames from a wav2vec 2.0 (`backbone`), from the small log-mel encoder, or no sound at all."""

    backbone: Annotated[str, Field(min_length=1)] = "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"
    """Hub id or folder of the wav2vec 2.0 to start from (PAPER, section 4); `--backbone` sets it."""

    revision: Annotated[str, Field(min_length=1)] = "main"
    """Commit, tag or branch of a backbone on the hub; `--revision` sets it."""

    freeze_encoder: bool = False
    """Whether the encoder and its VAD head stay as they are (PAPER, Table 1, "frozen")."""

    freeze_extractor: bool = False
    """Whether the encoder's convolutions stay as they are, as those who made the backbone left them; a
    third of the work and most of the memory of a step less."""

    vad_head: bool = True
    """Whether valence, arousal and dominance, predicted for each frame, join the frame."""

    global_vector: bool = True
    """Whether the mean of the frames is used."""

    lstm: bool = True
    """Whether the last state of an LSTM over the frames is used."""

    regression_head: bool = True
    """Whether dense and tanh come before the projection to the six intensities."""

    lstm_layers: _Count = 2
    """Layers of the LSTM (CODE; the paper does not say)."""

    lstm_dropout: _Fraction = 0.0
    """Dropout between the LSTM's layers (PAPER, Table 1: none, and 0.1 in a variant; CODE: none)."""

    pad_seconds: Annotated[float, Field(ge=0, strict=True)] = 0.0
    """Clips are zero-padded to this length, and no mask separates the padding from sound (PAPER, section 6,
    "zero padding"); 0 for masked padding, which changes nothing."""

    features: tuple[FeatureConfig, ...] = ()
    """Feature folders that are read, too."""

    fusion: FusionConfig = field(default_factory=FusionConfig)
    """How sound and features come together."""

    logmel: LogMelConfig = field(default_factory=LogMelConfig)
    """Sizes of the log-mel encoder; without effect for a wav2vec 2.0."""

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        if len(names) > len(set(names)):
            raise ValueError(f"features {', '.join(names)}: a folder comes twice")
        if self.encoder == "none" and not self.features:
            raise ValueError('encoder is "none" and there are no features: nothing is left to predict from')
        if self.encoder != "none" and not (self.global_vector or self.lstm):
            raise ValueError("global_vector and lstm are both off: nothing is left to predict from")
        if self.encoder != "wav2vec2" and self.vad_head:
            raise ValueError("vad_head needs a wav2vec2 backbone that brings one")
        if self.encoder != "wav2vec2" and self.freeze_extractor:
            raise ValueError(
                f"freeze_extractor needs a wav2vec2 backbone: {self.encoder} has nothing to freeze"
            )
        if self.pad_seconds and (self.encoder == "none" or self.freeze_encoder):
            raise ValueError("pad_seconds is for an encoder that is trained")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """How the weights are found."""

    __pydantic_config__ = _STRICT

    epochs: _Count = 30
    """Passes over the training clips (PAPER, section 4)."""

    batch_size: _Count = 32
    """Clips per step (PAPER, section 4)."""

    batch_seconds: Annotated[float, Field(ge=0, strict=True)] = 0.0
    """Seconds per step, padding included, instead of `batch_size` clips: batches of clips of similar
    length, as many as fit. 0 for the paper's random batches."""

    group_size: _Count = 8
    """Clips run side by side: a batch, sorted by length, is split into groups whose gradients add up to
    the batch's own, whatever the loss. Less padding and memory; the batches stay random."""

    loss: str = "mse"
    """What is made small: mse (PAPER, section 4), ccc, pearson, or a sum such as "mse+0.5*pearson"."""

    learning_rate: Annotated[float, Field(gt=0, strict=True)] = 1e-4
    """Peak learning rate of AdamW (PAPER, section 4; the optimiser from CODE)."""

    weight_decay: Annotated[float, Field(ge=0, strict=True)] = 0.01
    """AdamW's weight decay, on all parameters (CODE: the optimiser's default)."""

    warmup_epochs: Annotated[float, Field(ge=0, strict=True)] = 1.0
    """Epochs of linear warm-up before the cosine, counted in steps (CODE; the paper says only cosine)."""

    patience: Annotated[int, Field(ge=0, strict=True)] = 5
    """Epochs without a better validation mean Pearson before training stops; 0 for never. The paper stops
    early and gives no number: 5 is ours. CODE never stops early."""

    clip_grad_value: Annotated[float, Field(ge=0, strict=True)] = 0.0
    """Each gradient element is clipped to this size; 0 for never (CODE: 100, practically inert)."""

    clip_grad_norm: Annotated[float, Field(ge=0, strict=True)] = 0.0
    """The gradient of a step is scaled down to this length; 0 for never."""

    ema_decay: _Fraction = 0.0
    """Validate and keep an exponential average of the weights with this decay a step; 0 for the weights."""

    layer_decay: Annotated[float, Field(gt=0, le=1, strict=True)] = 1.0
    """Each layer of the encoder learns at this times the rate of the layer above it."""

    precision: Precision = "auto"
    """Arithmetic of the model (CODE: fp16 with a loss scaler); "auto" is bf16 on a GPU that has it, else
    fp32."""

    seed: Annotated[int, Field(ge=0, strict=True)] = 1
    """Seed of the new weights, the batches and the dropouts (CODE: 1)."""

    init_from: str = ""
    """A finished run whose weights to start from; `--init-from` sets it."""

    deterministic: bool = False
    """Whether a GPU uses exactly repeatable operations only, which are slower; `--deterministic` sets it."""

    compile: bool = False
    """Whether torch.compile fuses the encoder's operations."""

    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """How training clips are varied; not at all in the paper."""

    def __post_init__(self) -> None:
        parse_loss(self.loss)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """A run, whole: the tables `[data]`, `[model]` and `[training]` of `run.toml`."""

    __pydantic_config__ = _STRICT

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


def read_config(path: Path) -> RunConfig:
    """The run that the TOML file at `path` describes; what it leaves out has its default.

    Raises:
        ConfigError: the file is missing, is not TOML, or holds unknown keys or impossible values.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(Problem(str(path), "no such file")) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(Problem(str(path), f"not readable as TOML: {error}")) from error
    return _validate(values, str(path), ConfigError)


def change_config(config: RunConfig, changes: Iterable[str]) -> RunConfig:
    """`config` with each `KEY=VALUE` of `changes` applied, such as `training.epochs=3`.

    The features of a model are numbered: `model.features.0.name=faces`.

    Values are TOML; what is not TOML is taken as text.

    Raises:
        UsageError: a change is not KEY=VALUE, names no known key, or has an impossible value.
    """
    values = asdict(config)
    for change in changes:
        key, equals, text = change.partition("=")
        table, name = _find_table(values, key)
        if not equals or table is None:
            known = ", ".join(_keys(config))
            raise UsageError(Problem(f"--set {change}", "not KEY=VALUE of a known key", f"one of {known}"))
        try:
            table[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            table[name] = text
    return _validate(values, "--set", UsageError)


def replace_values(config: RunConfig, values: Mapping[str, Any], where: str) -> RunConfig:
    """`config` with these values at keys such as "data.fold"; what is None stays as it is.

    Raises:
        UsageError: a value is impossible; messages begin with `where`.
    """
    tables = asdict(config)
    for key, value in values.items():
        table, name = key.split(".")
        if value is not None:
            tables[table][name] = value
    return _validate(tables, where, UsageError)


def has_key(config: RunConfig, key: str) -> bool:
    """Whether `--set` can change this key of a run."""
    return _find_table(asdict(config), key)[0] is not None


def compare_configs(found: RunConfig, asked: RunConfig) -> list[str]:
    """What two runs do not share, in words.

    >>> compare_configs(RunConfig(), RunConfig(training=TrainingConfig(epochs=3)))
    ['training.epochs is 30, not 3']
    """
    wanted = asdict(asked)
    return [
        f"{table}.{key} is {value!r}, not {wanted[table][key]!r}"
        for table, values in asdict(found).items()
        for key, value in values.items()
        if wanted[table][key] != value
    ]


def format_config(config: RunConfig) -> str:
    """The text of `run.toml`."""
    return tomli_w.dumps(asdict(config))


def _find_table(values: dict[str, Any], key: str) -> tuple[dict[str, Any] | None, str]:
    """The table that holds the value of a dotted key, None for no such value, and the value's name in it."""
    *parents, name = key.strip().split(".")
    table: Any = values
    for parent in parents:
        if isinstance(table, dict):
            table = table.get(parent)
        elif isinstance(table, (list, tuple)) and parent.isdecimal() and int(parent) < len(table):
            table = table[int(parent)]
        else:
            return None, name
    known = isinstance(table, dict) and name in table and not isinstance(table[name], dict)
    return (table if known else None), name


def _keys(config: Any, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for item in fields(config):
        value = getattr(config, item.name)
        keys += _keys(value, f"{prefix}{item.name}.") if is_dataclass(value) else [prefix + item.name]
        if isinstance(value, tuple):
            for number, entry in enumerate(value):
                keys += _keys(entry, f"{prefix}{item.name}.{number}.") if is_dataclass(entry) else []
    return keys


def _validate(values: dict[str, Any], where: str, error_class: type[ConfigError | UsageError]) -> RunConfig:
    try:
        return TypeAdapter(RunConfig).validate_python(values)
    except ValidationError as error:
        raise error_class(_describe(where, item) for item in error.errors()) from None


def _describe(where: str, item: ErrorDetails) -> Problem:
    key = ".".join(map(str, item["loc"]))
    if item["type"] == "unexpected_keyword_argument":
        return Problem(f"{where}, {key}", "no such key", next_step="mend its name or remove it")
    found = item["msg"].removeprefix("Value error, ")
    return Problem(
        f"{where}, {key}" if key else where,
        found if item["type"] == "value_error" else f"{item['input']!r}: {found}",
    )
