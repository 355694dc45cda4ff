"""The model of Hallmen et al. (PAPER, section 4 and Figure 3; see `core.constants`).

    waveforms (B, T) -- encoder --> hidden states (B, F, H) --+--> frames (B, F, D), D = H + 3
                                       '-- VAD head (B, F, 3)-'        |
                           mean over frames (B, D) <-------------------+
                           LSTM, last state (B, D) <-------------------'
                           both, concatenated (B, 2D) --> dense, tanh, projection --> intensities (B, 6)

The VAD head, the global vector, the LSTM and the regression head can each be switched off. The systems that
read feature folders put a `branches.Branch` for each of them beside all that, or in its place, and fuse the
vectors (`fusion`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from abaw_emi.core.constants import EMOTIONS
from abaw_emi.models.branches import Branch, make_recurrent
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.encoders.sound import SoundBranch
from abaw_emi.models.encoders.spec_augment import Masks
from abaw_emi.models.encoders.text import TextEncoder
from abaw_emi.models.encoders.tuning import find_frozen, make_sound_encoder
from abaw_emi.models.encoders.waveform import VadHead, Wav2Vec2Encoder
from abaw_emi.models.fusion import Join, LateMean, Modalities, TextAnchored
from abaw_emi.models.heads import AuxiliaryHeads, Head
from abaw_emi.models.input_check import read_input
from abaw_emi.models.pooling import make_pooling


class EmiModel(SoundBranch, PreTrainedModel):
    """Waveforms to six intensities; saved and loaded with `save_pretrained` and `from_pretrained`."""

    config_class = EmiConfig
    base_model_prefix = "emi"
    main_input_name = "waveforms"

    def __init__(self, config: EmiConfig) -> None:
        super().__init__(config)
        self.parts = parts = config.to_parts()
        self.encoder = None
        self.widths = {
            feature.name: width for feature, width in zip(parts.features, config.widths, strict=True)
        }
        self.audio_width = 0 if parts.encoder == "none" else self._make_audio_parts(config.encoder_config)
        branches = [Branch(feature, self.widths[feature.name]) for feature in parts.features]
        self.branches = nn.ModuleList(branches)
        self.text_feature = next((feature for feature in parts.features if feature.backbone), None)
        if self.text_feature is not None:
            self.text = TextEncoder(config.text_config or {})
        widths = [self.audio_width] if self.audio_width else []
        widths += [branch.output_width for branch in branches]
        self._make_fusion(branches, widths)
        heads = {place: widths[place] for place, weight in enumerate(parts.auxiliary_weights) if weight}
        self.auxiliary = AuxiliaryHeads(heads, parts.fusion) if heads else None
        self.post_init()  # type: ignore[no-untyped-call]
        self._freeze()

    def _make_fusion(self, branches: Sequence[Branch], widths: Sequence[int]) -> None:
        """Makes what turns the modalities' vectors, of these widths, into intensities."""
        parts, dense = self.parts, self.parts.regression_head
        if parts.fusion.kind == "text-anchored":
            self.anchored = self._make_anchored(branches)
        elif parts.fusion.kind == "mean" and len(widths) > 1:
            self.late_mean = LateMean(widths, parts.fusion, dense=dense)
        else:
            if len(widths) > 1:
                self.join = Join(widths)
            self.head = Head(sum(widths), parts.fusion, dense=dense)

    def _make_audio_parts(self, encoder_config: dict[str, Any]) -> int:
        """Makes the encoder and what follows it, and returns the width of the vector they make of a clip."""
        parts = self.parts
        self.encoder = make_sound_encoder(parts, encoder_config)
        if parts.layer_weights:
            self.layer_weights = nn.Parameter(torch.zeros(1 + self.encoder.layers))
        width = self.encoder.hidden_size
        if parts.vad_head:
            assert isinstance(self.encoder, Wav2Vec2Encoder), "checked above"
            backbone: Any = self.encoder.wav2vec2.config
            self.vad_head = VadHead(width, backbone.num_labels, backbone.final_dropout)
            width += backbone.num_labels
        if parts.lstm:
            self.lstm = make_recurrent("lstm", width, width, parts.lstm_layers, parts.lstm_dropout)
        self.frame_width = width
        if parts.pooling == "mean":
            return width * (parts.global_vector + parts.lstm)
        self.pooling = make_pooling(parts.pooling, width)
        return self.pooling.output_width + width * parts.lstm

    def _make_anchored(self, branches: Sequence[Branch]) -> TextAnchored:
        fusion = self.parts.fusion
        others = [] if self.encoder is None else [self.frame_width]
        named = dict(zip(self.widths, branches, strict=True))
        others += [branch.frame_width for name, branch in named.items() if name != fusion.anchor]
        return TextAnchored(named[fusion.anchor].output_width, others, fusion)

    @property
    def input_widths(self) -> dict[str, int]:
        """Numbers a frame of what is read of each feature: D, or 1 of a transcript, the number of a token."""
        text = self.text_feature
        return {
            name: 1 if text is not None and name == text.name else width
            for name, width in self.widths.items()
        }

    @property
    def output_width(self) -> int:
        """W, of what `regress` returns for losses."""
        heads = 0 if self.auxiliary is None else len(self.auxiliary.heads)
        return len(EMOTIONS) * (1 + self.parts.fusion.gate) + (1 + len(EMOTIONS)) * heads

    def forward(
        self,
        waveforms: Tensor | None = None,
        lengths: Tensor | None = None,
        masks: Masks | None = None,
        modalities: Modalities | None = None,
        *,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """The intensities (B, 6) of each clip: `regress` of `encode`, whose arguments it takes.

        Nothing is normalised here: waveforms that are not, for a model that `standardises`, give wrong
        intensities, and one UserWarning for each model. `abaw_emi.load` normalises. In training mode
        SpecAugment and LayerDrop are left out, with one UserWarning, unless `masks` are given (`draw_masks`).

        Args:
            waveforms: (B, T), see `encode`.
            lengths: (B,), see `encode`.
            masks: see `encode`.
            modalities: the clips' features, for a model that reads any.
            input_values: `waveforms` as transformers' feature extractors call them.
            attention_mask: (B, T), in the place of `lengths`: 1 at each clip's samples, 0 beyond its end.

        Raises:
            UsageError: waveforms or lengths are missing, or of another form.
        """
        waveforms, lengths = read_input(waveforms, lengths, input_values, attention_mask)
        self._check_input(waveforms, lengths)
        self._check_masks(masks)
        return self.regress(*self.encode(waveforms, lengths, masks), self.encode_text(modalities))

    def encode_text(self, modalities: Modalities | None) -> Modalities | None:
        """The same, with hidden states in place of the tokens of a model that has a text encoder."""
        text = self.text_feature
        if modalities is None or text is None:
            return modalities
        tokens = modalities.frames[text.name][..., 0].long()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not text.freeze):
            states = self.text(tokens, modalities.lengths[text.name])
        return replace(modalities, frames={**modalities.frames, text.name: states})

    def regress(
        self,
        frames: Tensor | None,
        frame_lengths: Tensor,
        modalities: Modalities | None = None,
        *,
        for_loss: bool = False,
    ) -> Tensor:
        """The intensities of each clip from its frames, as `encode` returns them, of any dtype.

        Computed in the dtype of the weights that are used here, whatever autocast says: rounding adds up
        over the LSTM's hundreds of steps, cuDNN's recurrent layers know fp16 alone under autocast, and
        intensities rounded to bf16 would leave a correlation as a loss nothing to go by. On a GPU, recurrent
        layers may have TF32 (`device.set_up_gpus`).

        Args:
            frames: (B, F, D); None if no clip of the batch has sound, or the model has no encoder.
            frame_lengths: (B,) frames of each clip.
            modalities: the clips' features, as `encode_text` returns them, for a model that reads any.
            for_loss: whether to return all that losses read: see `optimisation.losses.Loss`.

        Returns:
            (B, 6) in float32 or wider, in the order of `constants.EMOTIONS`; unbounded, or in
            (0, 1) with `fusion.head_output` "sigmoid".
        """
        weight = next(self._fusion().parameters())
        with torch.autocast(weight.device.type, enabled=False):
            if self.parts.fusion.kind == "text-anchored":
                assert modalities is not None, "the anchor is one of them"
                outputs = self._look_up(frames, frame_lengths, modalities, weight)
            else:
                vectors = self._make_vectors(frames, frame_lengths, modalities, weight)
                outputs = self._fuse(vectors, modalities)
                if for_loss and self.auxiliary is not None:
                    present = None if modalities is None else modalities.present
                    outputs = torch.cat([outputs, self.auxiliary(vectors, present)], dim=-1)
            outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
            return outputs if for_loss else outputs[:, : len(EMOTIONS)]

    def _make_vectors(
        self, frames: Tensor | None, frame_lengths: Tensor, modalities: Modalities | None, weight: Tensor
    ) -> list[Tensor]:
        """A vector (B, W) of each modality, in the dtype of `weight`."""
        vectors = []
        if frames is not None:
            vectors.append(self._summarise(frames.to(weight.dtype), frame_lengths))
        elif self.encoder is not None:  # what stands for missing sound is put in the place of these
            vectors.append(weight.new_zeros(len(frame_lengths), self.audio_width))
        if modalities is not None:
            vectors += [
                branch(modalities.frames[name].to(weight.dtype), modalities.lengths[name])
                for name, branch in zip(self.widths, self.branches, strict=True)
            ]
        return vectors

    def _fuse(self, vectors: Sequence[Tensor], modalities: Modalities | None) -> Tensor:
        if len(vectors) == 1:
            intensities: Tensor = self.head(vectors[0])
            return intensities
        assert modalities is not None, "several vectors come from several modalities"
        if self._is_late:
            intensities = self.late_mean(vectors, modalities.present)
        else:
            intensities = self.head(self.join(vectors, modalities.present))
        return intensities

    def _look_up(
        self, frames: Tensor | None, frame_lengths: Tensor, modalities: Modalities, weight: Tensor
    ) -> Tensor:
        """The intensities (B, 6) of text-anchored fusion."""
        anchor, names = self.parts.fusion.anchor, list(self.widths)
        values, lengths, columns = [], [], [names.index(anchor) + (self.encoder is not None)]
        if self.encoder is not None:
            if frames is None:  # a learned frame is put in the place of it
                frames = weight.new_zeros(len(frame_lengths), 1, self.frame_width)
            values, lengths = [frames.to(weight.dtype)], [frame_lengths]
            columns.append(0)
        for number, (name, branch) in enumerate(zip(names, self.branches, strict=True)):
            assert isinstance(branch, Branch)
            inputs = modalities.frames[name].to(weight.dtype), modalities.lengths[name]
            if name == anchor:
                query = branch(*inputs)
            else:
                values.append(branch.run(*inputs))
                lengths.append(inputs[1])
                columns.append(number + (self.encoder is not None))
        intensities: Tensor = self.anchored(query, values, lengths, modalities.present[:, columns])
        return intensities

    def _fusion(self) -> nn.Module:
        """What makes intensities of the modalities."""
        if self.parts.fusion.kind == "text-anchored":
            return self.anchored
        return self.late_mean if self._is_late else self.head

    @property
    def _is_late(self) -> bool:
        return hasattr(self, "late_mean")

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> Any:
        """What transformers loads, with each weight at the start of an allocation of its own.

        transformers leaves the weights in the mapped file, where they begin at any multiple of their size.
        MKL sums from the first aligned element on, so such a model's predictions differ in the last bit from
        those of the model that was saved.
        """
        loaded = super().from_pretrained(*arguments, **options)
        model: EmiModel = loaded[0] if isinstance(loaded, tuple) else loaded  # with output_loading_info
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
        return loaded

    def train(self, mode: bool = True) -> Self:
        """Sets training mode; what is frozen stays frozen, and in evaluation mode, without dropout."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        self._freeze()  # from_pretrained makes new, trainable parameters
        return self

    def _freeze(self) -> None:
        for module in self._frozen():
            module.requires_grad_(False)
        if self.encoder is not None and self.parts.tuning.train_layers:
            for weight in self.encoder.lower_weights(self.parts.tuning.train_layers):
                weight.requires_grad_(False)

    def _frozen(self) -> list[nn.Module]:
        text = [self.text] if self.text_feature is not None and self.text_feature.freeze else []
        vad = [self.vad_head] if self.parts.vad_head and self.parts.freeze_encoder else []
        return [*text, *find_frozen(self.encoder, self.parts), *vad]

    def _init_weights(self, module: nn.Module) -> None:
        """Leaves new layers as torch initialises them, as CODE does; the backbone is loaded."""


# From here on, AutoModel reads run folders.
AutoModel.register(EmiConfig, EmiModel, exist_ok=True)
