"""How long training waits for a save: `python benchmarks/saving.py`.

The published architecture (184 M weights) with AdamW's state, saved three times: written while training
waits, as it was before, and copied and written by a thread.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from encoder import make_models

from abaw_emi.runs.run import Run
from abaw_emi.training.checkpoint import Checkpoint, best_folder, save_model, write_checkpoint
from abaw_emi.training.saver import Saver


def main() -> None:
    _, model = make_models(small=False)
    optimizer = torch.optim.AdamW(model.parameters())
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    print(
        "| save | waited, written at once | waited, copied | the copy is written after |\n|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder, Saver(Run(Path(folder) / "copied"), model) as saver:
        for number in range(3):
            at, run = Checkpoint(epoch=number, best_epoch=number), Run(Path(folder) / "at-once")
            begin = time.perf_counter()
            save_model(model, best_folder(run, number))
            write_checkpoint(run, at, state)
            first = time.perf_counter()
            saver.keep()
            saver.save(at, state)
            second = time.perf_counter()
            saver.wait()
            third = time.perf_counter()
            print(
                f"| {number + 1} | {first - begin:.1f} s | {second - first:.1f} s | {third - first:.1f} s |"
            )


if __name__ == "__main__":
    main()
