"""What every encoder of sound offers, whatever network it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from abaw_emi.core.errors import Problem
from abaw_emi.models.encoders.spec_augment import Masks, Regularisation

Lengths = TypeVar("Lengths", int, Tensor)


class SoundEncoder(nn.Module):
    """Turns waveforms (B, T), zero-padded, and their lengths (B,) in samples into frames.

    A clip's frames do not depend on what else is in the batch.

    Attributes:
        hidden_size: H, the width of a frame.
        standardises: whether each waveform is to have zero mean and unit variance.
        is_large: whether it is a published network, of which a CPU runs one clip at a time as fast as many.
        max_samples: the longest clip that it reads; None for any.
        layers: the number of its layers, for learning rates that differ between them.
        layer_prefixes: what the names of its layers' weights begin with, before the layer's number.
        norm_prefix: the same of a norm after the last layer; None without one.
        extractor_prefixes: the same of the convolutions that read the waveform.
        adapter_targets: the names of the dense layers that adapters are put into (`lora`), by what they are.
        changed: what `leave_lower_whole` changed, in words.
    """

    hidden_size: int
    standardises: bool = True
    is_large: bool = True
    max_samples: int | None = None
    layers: int
    layer_prefixes: tuple[str, ...]
    norm_prefix: str | None = None
    extractor_prefixes: tuple[str, ...] = ()
    adapter_targets: Mapping[str, tuple[str, ...]] = MappingProxyType(
        {"attention": ("q_proj", "v_proj"), "feed-forward": ("intermediate_dense", "output_dense")}
    )
    changed: tuple[str, ...] = ()
    _regularisation: Regularisation | None = None

    def frame_lengths(self, lengths: Lengths) -> Lengths:
        """Frames of clips of `lengths` samples, (B,) or of a single one."""
        raise NotImplementedError

    @property
    def leaves_out(self) -> bool:
        """Whether training draws LayerDrop or SpecAugment."""
        return bool(self._regularisation)

    def draw_masks(self, lengths: Sequence[int], rng: np.random.Generator) -> Masks | None:
        """What clips of `lengths` samples leave out in one pass of training; None if it is never anything.

        Follows the backbone's `layerdrop`, `mask_time_*` and `mask_feature_*`; see `spec_augment`.
        """
        if not self._regularisation:
            return None
        return self._regularisation.draw([self.frame_lengths(length) for length in lengths], rng)

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor,
        masks: Masks | None = None,
        layer_weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Hidden states (B, F, H) and frame lengths (B,); frames beyond a clip's length mean nothing.

        Without `masks` there is no LayerDrop and no SpecAugment, in training neither; the other dropouts
        are torch's own, on in training mode.

        With `layer_weights` (1 + layers,), of pretrained encoders alone, the states are the weighted sum of
        what goes into the first layer and of what comes out of each; of the last one, after the norm that
        follows it, if any does. Out of a layer that a clip skips comes what went in.

        Lengths, here and below, are on the waveforms' device or on the CPU, and stay there. On the CPU it is
        known without waiting for a GPU whether any clip is padded: if none is, attention needs no mask.
        """
        raise NotImplementedError

    def run_lower(self, waveforms: Tensor, lengths: Tensor, first: int) -> Tensor:
        """What goes into the layer of the number `first`, (B, S, H), if nothing is left out before it.

        A clip has `state_lengths` of them; what is beyond means nothing. Of pretrained encoders alone.
        """
        raise NotImplementedError

    def run_upper(
        self, states: Tensor, lengths: Tensor, first: int, masks: Masks | None = None
    ) -> tuple[Tensor, Tensor]:
        """What `forward` returns, of what goes into the layer `first`, as `run_lower` returns it.

        Args:
            states: (B, S, H), anything finite beyond a clip's last one.
            lengths: (B,) samples of each clip.
            first: the number of the first layer to run.
            masks: of which the layers from `first` on are used.
        """
        raise NotImplementedError

    def state_lengths(self, lengths: Lengths) -> Lengths:
        """How many states `run_lower` makes of clips of `lengths` samples, (B,) or of a single one."""
        return self.frame_lengths(lengths)

    def leave_lower_whole(self, first: int) -> None:
        """Turns off what training leaves out below the layer `first`; `changed` says what that was."""
        if self._regularisation:
            self.changed = self._regularisation.describe_below(first)
            self._regularisation = self._regularisation.only_from(first)

    def extractor(self) -> list[nn.Module]:
        """The convolutions that read the waveform."""
        return [self.get_submodule(name) for name in self.extractor_prefixes]

    def layer_modules(self) -> list[nn.Module]:
        """Its layers, the first one first."""
        return [layer for name in self.layer_prefixes for layer in self.get_submodule(name).children()]

    def lower_parts(self, top: int) -> list[nn.Module]:
        """All below the last `top` layers: the modules that hold nothing of these, nor of the last norm."""
        upper = self.layer_modules()[-top:]
        if self.norm_prefix is not None:
            upper.append(self.get_submodule(self.norm_prefix))
        kept = {id(part) for module in upper for part in module.modules()}
        return [module for module in self.modules() if not any(id(part) in kept for part in module.modules())]

    def lower_weights(self, top: int) -> list[nn.Parameter]:
        """The weights below the last `top` layers, those included that lie in no module of `lower_parts`."""
        first = 2 + self.layers - top
        return [weight for name, weight in self.named_parameters() if self.find_level(name) < first]

    def find_level(self, name: str) -> int:
        """How far up a weight is: 0 for the extractor, 1 for all up to the first layer, then each layer.

        Args:
            name: within the encoder.
        """
        for prefix in self.layer_prefixes:
            if name.startswith(f"{prefix}."):
                return 2 + int(name.removeprefix(f"{prefix}.").partition(".")[0])
        if any(name.startswith(f"{prefix}.") for prefix in self.extractor_prefixes):
            return 0
        last = self.norm_prefix is not None and name.startswith(f"{self.norm_prefix}.")
        return 1 + self.layers if last else 1

    def compile_regions(self, backend: str = "inductor") -> None:
        """Compiles each layer, in place, with torch.compile at its first run.

        The layers share one compiled graph, so it takes a minute and not twelve; it is the same for all
        lengths, and one each for training, for prediction and for a clip alone (`benchmarks/counting.py`).
        Names in the state dict stay. Without it everything runs as well; on a CPU that is the better choice,
        as compiling takes minutes there.
        """
        # On sizes that it does not know, torch 2.11 fails in its analysis of loops (InductorError).
        options = {"triton.coalesce_tiling_analysis": False} if backend == "inductor" else None
        for part in (*self.extractor(), *self.layer_modules()):
            part.compile(backend=backend, dynamic=True, options=options)

    def _run_by_length(
        self,
        run: Callable[[Tensor, Masks | None], Tensor],
        inputs: Tensor,
        lengths: Tensor,
        masks: Masks | None,
    ) -> Tensor:
        """The frames (B, F, H) of an encoder that must see no padding: clips of equal length run together.

        Args:
            run: what makes frames of inputs of equal length.
            inputs: waveforms (B, T), or states (B, S, H).
            lengths: (B,) samples of each clip.
            masks: see `forward`.
        """
        hidden_states: Tensor | None = None
        for length in lengths.unique().tolist():
            frames = self.frame_lengths(length)
            rows = torch.where(lengths == length)[0].to(inputs.device, non_blocking=True)
            alone = run(
                inputs[rows, : length if inputs.ndim == 2 else self.state_lengths(length)],
                None if masks is None else masks.take(rows, frames),
            )
            if hidden_states is None:
                places = self.frame_lengths(inputs.shape[1]) if inputs.ndim == 2 else inputs.shape[1]
                hidden_states = alone.new_zeros(len(lengths), places, self.hidden_size)
            hidden_states[rows, :frames] = alone
        assert hidden_states is not None
        return hidden_states


def check_config(config: Mapping[str, Any]) -> list[Problem]:
    """What a backbone's config asks for that no encoder here does."""
    unsupported = {
        "add_adapter": "an encoder without adapter layers",
        "use_intermediate_ffn_before_adapter": "an encoder without adapter layers",
        "conv_pos_batch_norm": "no batch norm, which makes a clip depend on those beside it",
    }
    return [
        Problem("backbone config.json", f"{name} is true", expected)
        for name, expected in unsupported.items()
        if config.get(name, False)
    ]


def find_code(config: Mapping[str, Any], where: str) -> list[Problem]:
    """What a config has that would make transformers run code from the hub, or other kernels."""
    keys = ("auto_map", "attn_implementation", "_attn_implementation", "quantization_config")
    return [
        Problem(where, f"{key} is {config[key]!r}", "none") for key in keys if config.get(key) is not None
    ]


def may_be_padded(waveforms: Tensor, lengths: Tensor) -> bool:
    """Whether a clip may end before its row does, by what is known without waiting for a GPU."""
    if torch.compiler.is_compiling() or lengths.device.type != "cpu":
        return True
    return bool((lengths < waveforms.shape[1]).any())
