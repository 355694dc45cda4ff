"""metrics.jsonl: a line an epoch, and a line every few steps.

Lines of an epoch hold `epoch` (counted from 1), `train_loss`, `learning_rate`, `clips_per_second` and,
where there is validation, `valid`; lines inside an epoch hold `step` and `loss` instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boltons.fileutils import atomic_save


def append_metrics(path: Path, **values: Any) -> None:
    """Appends a line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def cut_metrics(path: Path, epochs: int, step: int) -> None:
    """Drops what was written after `epochs` whole epochs and `step` steps: it will be written again."""
    kept = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            line: Mapping[str, Any] = json.loads(text)
        except ValueError:  # cut off by whatever ended the process
            continue
        position = (line["epoch"], line["step"]) if "step" in line else (line["epoch"] + 1, 0)
        if position <= (epochs + 1, step):
            kept.append(text + "\n")
    with atomic_save(str(path), text_mode=True, overwrite_part=True) as file:
        file.writelines(kept)
