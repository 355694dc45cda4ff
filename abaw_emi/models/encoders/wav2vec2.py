"""The network of wav2vec 2.0 (Baevski et al. 2020), under the names that transformers' Wav2Vec2Model gives.

    waveforms (B, T) -- feature_extractor --> (B, F, C) -- feature_projection --> (B, F, H)
        -- SpecAugment, zeros beyond each clip's end --> plus pos_conv_embed --> layers --> (B, F, H)

Parameters have transformers' names and shapes, so published checkpoints load as they are, and a clip's result
is what transformers gives that clip alone (`tests/parity/test_encoder.py`). What differs: frames stay
(B, F, C) throughout (`convolutions`); LayerDrop and SpecAugment come from outside (`spec_augment.Masks`) and
are each clip's own; nothing in here waits for the device or depends on values, so it compiles to one graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from transformers import Wav2Vec2Config
from transformers.activations import ACT2FN

from abaw_emi.models.encoders.convolutions import FeatureExtractor
from abaw_emi.models.encoders.linear import Linear
from abaw_emi.models.encoders.spec_augment import Masks


class FeatureProjection(nn.Module):
    """Features to the transformer's width."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.conv_dim[-1], eps=config.layer_norm_eps)
        self.projection = Linear(config.conv_dim[-1], config.hidden_size)
        self.dropout = nn.Dropout(config.feat_proj_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, C) to (B, F, H)."""
        projected: Tensor = self.dropout(self.projection(self.layer_norm(x)))
        return projected


class PositionalConvolution(nn.Module):
    """The position of a frame, from its neighbours: a grouped convolution over some two seconds."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        taps = config.num_conv_pos_embeddings
        conv = nn.Conv1d(
            config.hidden_size,
            config.hidden_size,
            taps,
            padding=taps // 2,
            groups=config.num_conv_pos_embedding_groups,
        )
        self.conv = weight_norm(conv, dim=2)
        self.activation = ACT2FN[config.feat_extract_activation]

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, H) to (B, F, H)."""
        frames = x.shape[1]
        # An even kernel gives one frame too many.
        positions: Tensor = self.activation(self.conv(x.transpose(1, 2))[..., :frames])
        return positions.transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.dropout = config.attention_dropout
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        self.q_proj = Linear(width, width)
        self.out_proj = Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, F, H) to (B, F, H); `mask` (B, 1, 1, F) is true at the frames to look at."""
        query, key, value = (
            projection(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, F, H / heads)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        # The mask stays bool: cuDNN has read additive ones as another type, silently (pytorch PR 191612).
        # Frames beyond a clip's end look at the clip's own, so theirs are numbers too.
        seen = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0
        )
        out: Tensor = self.out_proj(seen.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """Two dense layers on each frame."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.intermediate_dense = Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.intermediate_dropout = nn.Dropout(config.activation_dropout)
        self.output_dense = Linear(config.intermediate_size, config.hidden_size)
        self.output_dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, H) to (B, F, H)."""
        inner = self.intermediate_dropout(self.activation(self.intermediate_dense(x)))
        out: Tensor = self.output_dropout(self.output_dense(inner))
        return out


class EncoderLayer(nn.Module):
    """A transformer layer; "stable" ones normalise what goes in, the others what comes out."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.stable = config.do_stable_layer_norm
        self.attention = Attention(config)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, mask: Tensor | None, kept: Tensor | None) -> Tensor:
        """(B, F, H) to (B, F, H); clips that are not `kept` (B,) go past the layer unchanged."""
        if self.stable:
            out = x + self.dropout(self.attention(self.layer_norm(x), mask))
            out = out + self.feed_forward(self.final_layer_norm(out))
        else:
            out = self.layer_norm(x + self.dropout(self.attention(x, mask)))
            out = self.final_layer_norm(out + self.feed_forward(out))
        # Each layer runs for the whole batch, so all its weights have a gradient in every step, which is
        # what distributed training and compiled graphs want; a skipped clip's part of it is zero.
        return out if kept is None else torch.where(kept[:, None, None], out, x)


class Transformer(nn.Module):
    """Features in context: positions, layers, and one more norm."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.stable = config.do_stable_layer_norm
        self.pos_conv_embed = PositionalConvolution(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))

    def forward(
        self, x: Tensor, real: Tensor | None, kept: Tensor | None, layer_weights: Tensor | None
    ) -> Tensor:
        """(B, F, H) to (B, F, H).

        Args:
            x: features.
            real: (B, F), true within each clip; None where nothing is padded.
            kept: (L, B), the layers that each clip goes through; None for all.
            layer_weights: see `base.SoundEncoder.forward`.
        """
        return self.run_layers(self.enter(x, real), real, kept, layer_weights=layer_weights)

    def enter(self, x: Tensor, real: Tensor | None) -> Tensor:
        """What goes into the first layer, (B, F, H), of features (B, F, H)."""
        if real is not None:
            x = x.masked_fill(~real[..., None], 0)  # what the positional convolution finds past a clip alone
        x = x + self.pos_conv_embed(x)
        entered: Tensor = self.dropout(x if self.stable else self.layer_norm(x))
        return entered

    def run_layers(
        self,
        x: Tensor,
        real: Tensor | None,
        kept: Tensor | None = None,
        *,
        first: int = 0,
        end: int | None = None,
        layer_weights: Tensor | None = None,
    ) -> Tensor:
        """What comes out of the layers from `first` up to `end`, (B, F, H), of what goes into the first one.

        Args:
            x: (B, F, H).
            real: see `forward`.
            kept: see `forward`; of all layers.
            first: the number of the first layer to run.
            end: the number of the layer to stop before; None for the end, and the norm there.
            layer_weights: see `forward`.
        """
        mask = None if real is None else real[:, None, None]  # (B, 1, 1, F)
        mixed = None if layer_weights is None else layer_weights[0] * x
        for number in range(len(self.layers))[first:end]:
            x = self.layers[number](x, mask, None if kept is None else kept[number])
            if number + 1 == len(self.layers) and self.stable:
                x = self.layer_norm(x)
            if mixed is not None and layer_weights is not None:
                mixed = mixed + layer_weights[number + 1] * x
        return x if mixed is None else mixed


class Wav2Vec2(nn.Module):
    """wav2vec 2.0 from waveforms to hidden states.

    Args:
        config: the backbone's; `waveform.Wav2Vec2Encoder` has checked it.
    """

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.config = config
        self.feature_extractor = FeatureExtractor(config)
        self.feature_projection = FeatureProjection(config)
        self.masked_spec_embed: nn.Parameter | None = None
        if config.mask_time_prob > 0 or config.mask_feature_prob > 0:
            self.masked_spec_embed = nn.Parameter(torch.rand(config.hidden_size))
        self.encoder = Transformer(config)

    def forward(
        self,
        waveforms: Tensor,
        masks: Masks | None,
        *,
        lengths: Tensor | None,
        real: Tensor | None,
        layer_weights: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, F, H), meaningless (but finite) beyond a clip's end.

        Args:
            waveforms: (B, T), zero-padded at the end.
            masks: what to leave out; None for nothing.
            lengths: (B,) samples of each clip; None where nothing is padded.
            real: (B, F), true within each clip; None where nothing is padded.
            layer_weights: see `base.SoundEncoder.forward`.
        """
        x = self.feature_projection(self.feature_extractor(waveforms, lengths))  # (B, F, H)
        x = self._mask(x, masks)
        kept = None if masks is None else masks.layers_kept
        hidden_states: Tensor = self.encoder(x, real, kept, layer_weights)
        return hidden_states

    def run_lower(
        self, waveforms: Tensor, first: int, *, lengths: Tensor | None, real: Tensor | None
    ) -> Tensor:
        """What goes into the layer `first`, (B, F, H), without masks; the arguments are `forward`'s."""
        x = self.feature_projection(self.feature_extractor(waveforms, lengths))
        return self.encoder.run_layers(self.encoder.enter(x, real), real, end=first)

    def run_upper(self, states: Tensor, masks: Masks | None, first: int, *, real: Tensor | None) -> Tensor:
        """Hidden states (B, F, H) of what goes into the layer `first`; the rest is as in `forward`."""
        kept = None if masks is None else masks.layers_kept
        return self.encoder.run_layers(states, real, kept, first=first)

    def _mask(self, x: Tensor, masks: Masks | None) -> Tensor:
        """SpecAugment on x (B, F, H)."""
        vector = self.masked_spec_embed
        if masks is not None:
            x = masks.write_over(x, vector)
        drawn = masks is not None and masks.masked_frames is not None
        if self.training and self.config.apply_spec_augment and vector is not None and not drawn:
            nowhere = x.new_zeros((*x.shape[:2], 1), dtype=torch.bool)
            x = torch.where(nowhere, vector.to(x.dtype), x)  # so that the vector has a gradient: zero
        return x
