"""Where and in which arithmetic models run: chosen once for a command, and recorded."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from abaw_emi.core.constants import Precision
from abaw_emi.core.errors import Problem, UsageError, shorten_error
from abaw_emi.core.progress import Reporter
from abaw_emi.core.suggest import check_device
from abaw_emi.models.distributed import World

_NO_MEMORY = (
    r"CU(BLAS|DNN|SPARSE)_STATUS_ALLOC_FAILED|CUDA(\w| )*error: out of memory|MPS backend out of memory"
)

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What a command runs models with.

    Attributes:
        device: where they run.
        precision: of their arithmetic; never "auto".
        reporter: shows progress and warnings.
        world: the processes that train together.
    """

    device: torch.device
    precision: Precision
    reporter: Reporter
    world: World = field(default_factory=World)

    @classmethod
    def choose(
        cls,
        device: str,
        precision: Precision,
        reporter: Reporter,
        *,
        preset: Precision = "auto",
        world: World | None = None,
    ) -> Self:
        """The runtime for what the command line says; see `choose_device` and `choose_precision`."""
        world = world or World()
        if world.size > 1 and device.startswith("cuda:"):
            found = f"{device!r} under torchrun, for {world.size} processes"
            raise UsageError(Problem("device", found, "auto or cuda: a GPU for each"))
        chosen = choose_device(device, world.local_rank)
        arithmetic = choose_precision(precision, preset, chosen)
        set_up_gpus(arithmetic)
        return cls(device=chosen, precision=arithmetic, reporter=reporter, world=world)

    @classmethod
    def for_prediction(cls, device: str, precision: Precision, reporter: Reporter) -> Self:
        """The runtime for models that are not trained; see `choose_for_prediction`."""
        chosen, arithmetic = choose_for_prediction(device, precision)
        return cls(device=chosen, precision=arithmetic, reporter=reporter)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which a model of float32 weights runs in this precision."""
        return autocast(self.precision, self.device)


def choose_device(name: str = "auto", local_rank: int = 0) -> torch.device:
    """The device called `name`; "cuda" is this process's GPU, of its machine's; "auto" that or the CPU.

    Raises:
        UsageError: there is no such device here.
    """
    if check_device(name) == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{local_rank}"
    try:
        device = torch.device(name)
        if device.type == "mps" and not torch.backends.mps.is_available():
            raise NotImplementedError("there is no GPU of Apple's that this torch can use")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        found = f"{name!r} cannot be used: {shorten_error(error)}"
        raise UsageError(Problem("device", found, "auto, cpu, cuda, cuda:1 or mps")) from None
    return device


def choose_precision(asked: Precision, preset: Precision, device: torch.device) -> Precision:
    """The arithmetic to use: what the command line asks for, else the preset, else the device's best.

    "auto" is fp32 on a CPU and bf16 on a GPU that has it. On a CPU a preset's fp16 becomes fp32.

    Raises:
        UsageError: fp16 was asked for on a CPU.
    """
    if asked == "fp16" and device.type == "cpu":
        raise UsageError(Problem("precision", "fp16 on a CPU", "fp32 or bf16"))
    wanted = asked if asked != "auto" else preset
    if wanted == "fp16" and device.type == "cpu":
        return "fp32"
    if wanted != "auto":
        return wanted
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if has_bf16 else "fp32"


def choose_for_prediction(name: str, asked: Precision) -> tuple[torch.device, Precision]:
    """Device and arithmetic of a model that is not trained.

    Under `torchrun`, "cuda" is the GPU of this process. On a CPU, bf16 means weights of the encoder in
    bfloat16 (`inference.predict.load_run`).

    Raises:
        UsageError: no such device, or bf16 on a CPU that would have to imitate it, many times slower than
            float32.
    """
    device = choose_device(name, int(os.environ.get("LOCAL_RANK", "0")))
    precision = choose_precision(asked, "auto", device)
    set_up_gpus(precision)
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if precision == "bf16" and device.type == "cpu" and not has_bf16:
        found = "bf16 on a CPU that has neither AVX512_BF16 nor AMX"
        raise UsageError(Problem("precision", found, "fp32, or a processor with one of the two"))
    return device, precision


def in_float64(values: Tensor) -> Tensor:
    """The values in float64, on the CPU where their device has none, as Apple's GPUs have; gradients flow."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def empty_memory(device: torch.device) -> None:
    """Gives back what a GPU's allocator holds; not inside a handler, whose traceback holds on to tensors."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def set_up_gpus(precision: Precision) -> None:
    """Tells torch how GPUs compute in this precision; it holds for the whole process.

    What is called float32 is float32, convolutions included. By default, cuDNN rounds what goes into these
    and into recurrent layers to TF32 on an Ampere or newer card, 10 bits of mantissa: the last state of an
    LSTM is then off by 3.5e-4, emulated, and not by 1.1e-6. In half precision, whose frames have 7 or 10
    bits themselves, recurrent layers have TF32: a training step takes 195 ms then, and not 222.

    Attention is not cuDNN's, which plans anew for each length of clips, longer than it computes. The figures
    are in `benchmarks/README.md`.
    """
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    recurrent = "ieee" if precision == "fp32" else "tf32"
    torch.backends.cudnn.rnn.fp32_precision = recurrent  # type: ignore[attr-defined]
    torch.backends.cuda.enable_cudnn_sdp(False)


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """What cuBLAS, cuDNN and the driver say of too little memory is raised as torch says it.

    Raises:
        torch.OutOfMemoryError: the block needs more memory than the device has.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if re.search(_NO_MEMORY, str(error)):
            raise torch.OutOfMemoryError(str(error)) from error
        raise


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The context in which the model runs in `precision`; its weights stay float32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])


def make_deterministic() -> None:
    """Lets a GPU use only operations that give the same bits every time; to be called before it is used.

    cuBLAS, which cuDNN's recurrent layers use too, needs a workspace of fixed size for it (torch's
    documentation, "Reproducibility").
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def describe_hardware(device: torch.device) -> dict[str, Any]:
    """What ran: device, processor, threads, Python and library versions, for a provenance record."""
    from importlib.metadata import version

    packages = (
        "abaw-emi",
        "torch",
        "torchaudio",
        "transformers",
        "numpy",
        "polars",
        "soundfile",
        "av",
        "soxr",
    )
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }
