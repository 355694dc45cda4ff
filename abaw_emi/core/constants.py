"""The official facts of the EMI challenge on Hume-Vidmimic2, each with its source.

Every other module takes them from here; none is written a second time.

Sources: PAPER is Hallmen et al., "Unimodal Multi-Task Fusion for Emotional Mimicry Intensity
Prediction", CVPR 2024 workshops, arXiv 2403.11879; CODE is the authors' released code,
github.com/Skyy93/CVPR2024_abaw, commit 2c4e3c1.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Literal, get_args

OnBadClip = Literal["error", "skip"]
"""Clips that cannot be read: "error" fails and names all of them, "skip" leaves them out and lists them."""

RUN_FILE = "run.toml"
"""The resolved run in a run folder; a folder with it is one."""

Split = Literal["train", "valid", "test"]

AnySplit = Literal[Split, "all"]

SPLITS: tuple[Split, ...] = get_args(Split)

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""Arithmetic of the model; "auto" is fp32 on a CPU, and bf16 on a GPU that has it."""

EncoderKind = Literal["audio", "vision", "text"]
"""What an encoder reads: sound, pictures or words."""

IntervalMethod = Literal["percentile", "bca"]
"""How an interval is made of resamples: their percentiles, or those corrected for bias and acceleration
(Efron, "Better bootstrap confidence intervals", JASA 1987)."""

Scheme = Literal["mean", "zscores", "ranks", "greedy", "weights", "emotion-weights"]
"""How the predictions of an ensemble's members are combined, the simplest first."""

EnsembleMethod = Literal[Scheme, "auto"]
"""A scheme, or "auto": the simplest one that is not significantly outperformed out of fold."""

TableName = Literal["1", "2", "text"]
"""The paper's tables, and the results that only its text reports."""

OnMissing = Literal["error", "drop", "others"]
"""What becomes of a clip that a member lacks: refused, left out, or combined from those that have it."""

Fill = Literal["train-mean"]
"""What stands in for test clips without a prediction."""

EMOTIONS = (
    "Admiration",
    "Amusement",
    "Determination",
    "Empathic Pain",
    "Excitement",
    "Joy",
)
"""The six emotions, in the column order of the official label files (note the space)."""

FILENAME = "Filename"
"""Name of the id column of every official file."""

COLUMNS = (FILENAME, *EMOTIONS)
"""Header of the official label files, and of every prediction file."""

ID_WIDTH = 5
"""Digits of a clip's id: the files are named 00000.mp4 and on (17245 would be the last: inferred from the
counts, no list of the ids was seen)."""

INTENSITY_RANGE = (0.0, 1.0)
"""Range of an intensity in the label files, and of a submitted prediction (inferred: every label seen and
every entrant's file known lie in it; no rule text was seen)."""

OFFICIAL_COUNTS: dict[Split, int] = {"train": 8_072, "valid": 4_588, "test": 4_586}
"""Clips per split (PAPER, section 3)."""

REFERENCE_SCORES = {"baseline": 0.25, "paper": 0.386}
"""Mean Pearson on the official valid split: the official baseline of both modalities, and the audio model of
PAPER (PAPER, Table 1)."""

SAMPLE_RATE = 16_000
"""Samples per second of the delivered audio and of every encoder (PAPER, section 4), in Hz."""

MAX_SECONDS = 12.0
"""A clip is cut to its first seconds: 12 keep 95.6 % of the clips whole (PAPER, section 4)."""

MIN_SAMPLES = 400
"""Samples that give wav2vec 2.0 its first frame: the receptive field of its convolutions."""

HOP_SAMPLES = 320
"""Samples from one frame to the next: the product of wav2vec 2.0's convolution strides."""

FEATURE_WIDTHS = {"vit": 384, "wav2vec2": 768}
"""Numbers a frame of the delivered feature folders (00000.pkl is (38, 384) and (294, 768): printed in CODE's
notebooks and in those of github.com/huiqi2000/EMI, commit 749cc50)."""


VERSION = version("abaw-emi")
