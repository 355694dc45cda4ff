"""A speech encoder that runs through transformers' own class.

What training leaves out (LayerDrop, SpecAugment) is drawn by us, clip by clip, for these as for wav2vec 2.0:
the classes' own draws are turned off, and hooks on the first projection and on each layer take their place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from abaw_emi.core.errors import WeightsError
from abaw_emi.models.encoders.base import SoundEncoder, check_config, find_code
from abaw_emi.models.encoders.spec_augment import Masks, Regularisation
from abaw_emi.models.encoders.waveform import read_regularisation

WHERE = "backbone config.json"

Call = Callable[..., Tensor]
"""Masks, and what a model reads by its names, to hidden states (B, F, H)."""


class TransformersEncoder(SoundEncoder):
    """A model of transformers as an encoder of padded batches.

    Args:
        config: the backbone's `config.json`.

    Attributes:
        model: without its own LayerDrop and SpecAugment.

    Raises:
        WeightsError: the config asks for what is not supported.
    """

    layer_prefixes = ("model.encoder.layers",)

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        if problems := [*check_config(config), *find_code(config, WHERE)]:
            raise WeightsError(problems)
        backbone = AutoConfig.for_model(**config)
        self.hidden_size = backbone.hidden_size
        self.standardises = config.get("do_normalize", True)
        self.layers = backbone.num_hidden_layers
        self._regularisation = self._read_regularisation(backbone)
        backbone.layerdrop = 0.0
        backbone.apply_spec_augment = False
        self.model: nn.Module = self._make(backbone)
        self._masks: Masks | None = None
        self._layer_weights: Tensor | None = None
        self._mixed: Tensor | None = None
        self._add_hooks()

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor,
        masks: Masks | None = None,
        layer_weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Hidden states (B, F, H) and frame lengths (B,), as `SoundEncoder.forward`."""
        self._layer_weights = layer_weights
        try:
            return self._run(self._call, waveforms, lengths, masks), self.frame_lengths(lengths)
        finally:
            self._layer_weights = self._mixed = None

    def run_lower(self, waveforms: Tensor, lengths: Tensor, first: int) -> Tensor:
        """What goes into the layer `first`, as `SoundEncoder.run_lower`."""
        return self._run(partial(self._call, model=self._cut(first)), waveforms, lengths, None)

    def run_upper(
        self, states: Tensor, lengths: Tensor, first: int, masks: Masks | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden states and frame lengths, as `SoundEncoder.run_upper`."""
        weight = next(self.model.parameters())
        if not torch.is_autocast_enabled(weight.device.type):
            states = states.to(weight.dtype)
        return self._run_layers(states, lengths, first, masks), self.frame_lengths(lengths)

    def _run(self, call: Call, waveforms: Tensor, lengths: Tensor, masks: Masks | None) -> Tensor:
        """What `call` makes of the inputs that the model reads of these waveforms."""
        raise NotImplementedError

    def _run_layers(self, states: Tensor, lengths: Tensor, first: int, masks: Masks | None) -> Tensor:
        """`_call_layers` of states (B, S, H) and what the layers are given beside them."""
        raise NotImplementedError

    def _cut(self, first: int) -> nn.Module:
        """The model without the layers from `first` on and the norm after them; the weights are the same."""
        model = _copy_shallow(self.model)
        holder = model
        if self.layer_prefixes[0].startswith("model.encoder."):
            holder = model.encoder = _copy_shallow(self.model.get_submodule("encoder"))
        holder.layers = nn.ModuleList(self.layer_modules()[:first])
        if self.norm_prefix is not None:
            holder.layer_norm = nn.Identity()
        return model

    def _call_layers(
        self, states: Tensor, first: int, masks: Masks | None, given: dict[str, Tensor | None]
    ) -> Tensor:
        """What comes out of the layers from `first` on, and the norm after them; each is `given` the rest."""
        self._masks = masks
        try:
            for layer in self.layer_modules()[first:]:
                found = layer(states, **given)
                if isinstance(found, tuple):  # of WavLM
                    states, given = found[0], given | {"position_bias": found[1]}
                else:
                    states = found
        finally:
            self._masks = None
        if self.norm_prefix is not None:
            states = self.get_submodule(self.norm_prefix)(states)
        return states

    def _call(self, masks: Masks | None, model: nn.Module | None = None, **inputs: Tensor | None) -> Tensor:
        """The model's last hidden states, or the weighted sum of all."""
        weight = next(self.model.parameters())
        if not torch.is_autocast_enabled(weight.device.type):
            inputs = {
                name: value.to(weight.dtype) if value is not None and value.is_floating_point() else value
                for name, value in inputs.items()
            }
        self._masks = masks
        try:
            states: Tensor = (model or self.model)(**inputs).last_hidden_state
        finally:
            self._masks = None
        if self._mixed is not None and self._layer_weights is not None:
            return self._mixed + self._layer_weights[-1] * states
        return states

    def _read_regularisation(self, backbone: Any) -> Regularisation:
        return read_regularisation(backbone)

    def _make(self, backbone: Any) -> nn.Module:
        # Not in the dtype of its file: half precision is asked for by --precision.
        model: nn.Module = AutoModel.from_config(backbone, dtype=torch.float32)
        return model

    def _add_hooks(self) -> None:
        for number, layer in enumerate(self.layer_modules()):
            layer.register_forward_hook(partial(self._skip_layer, number))
        projection = getattr(self.model, "feature_projection", None)
        if isinstance(projection, nn.Module):
            projection.register_forward_hook(self._mask_frames)

    def _skip_layer(self, number: int, layer: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> Any:
        """LayerDrop: clips that skip a layer keep what went into it. WavLM's gives its position bias, too."""
        # What goes into a layer is what comes out of the one before; the last one's comes after the norm.
        if self._layer_weights is not None:
            part = self._layer_weights[number] * inputs[0]
            self._mixed = part if number == 0 or self._mixed is None else self._mixed + part
        if self._masks is None:
            return output
        kept = self._masks.layers_kept[number][:, None, None]
        if isinstance(output, tuple):
            return torch.where(kept, output[0], inputs[0]), *output[1:]
        return torch.where(kept, output, inputs[0])

    def _mask_frames(self, projection: nn.Module, inputs: object, output: Any) -> Any:
        """SpecAugment, where the classes have it; HuBERT's projection gives a tensor, the others a tuple."""
        if self._masks is None:
            return output
        vector = getattr(self.model, "masked_spec_embed", None)
        if isinstance(output, tuple):
            return self._masks.write_over(output[0], vector), *output[1:]
        return self._masks.write_over(output, vector)


def _copy_shallow(module: nn.Module) -> nn.Module:
    """Another module of the very same parts, of which some can be replaced."""
    found = copy.copy(module)
    found._modules = dict(module._modules)
    return found
