"""One row a face from any vision encoder of transformers.

The row is, and the record says which:

- "cls": the class token of the last hidden states, after the last norm (ViT, DINO, DINOv2, BEiT, DeiT);
- "pooled": the model's own `pooler_output`, where there is no class token (ConvNeXt, Swin, ResNet), and for
  the vision tower of a model of pictures and words, where it is what the model was trained on (CLIP, SigLIP).

With a layer, it is the class token of that layer's hidden states ("cls"), or else their mean over places
("mean").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from abaw_emi.core.arrays import Float32
from abaw_emi.core.constants import OnBadClip
from abaw_emi.core.errors import FeatureError, Problem, WeightsError, collect_errors
from abaw_emi.core.hashing import sha256
from abaw_emi.core.progress import Reporter
from abaw_emi.extraction.encode import EncoderSettings, FrameEncoder, Source, Sources, read_sources
from abaw_emi.features.faces import read_face
from abaw_emi.features.files import read_feature_file
from abaw_emi.models.hub import Pretrained
from abaw_emi.models.load import load_model, load_part

_CLASS_TOKENS = ("cls_token", "class_token", "class_embedding")
"""How weights of class tokens are called."""

Faces: TypeAlias = tuple[Path, ...]

Pooling = Literal["cls", "pooled", "mean"]


@dataclass(frozen=True, slots=True)
class Pictures:
    """Faces as the encoder reads them, (N, 3, H, W), those of one clip after those of another."""

    values: Tensor
    counts: list[int]


def read_faces(
    ids: Sequence[str],
    faces: dict[str, Faces],
    on_bad: OnBadClip,
    reporter: Reporter,
    is_done: Callable[[str, str], bool],
) -> Sources[Faces]:
    """The faces of the clips.

    Args:
        ids: of the clips.
        faces: the pictures of each clip.
        on_bad: what becomes of clips with a picture that cannot be read.
        reporter: shows a bar.
        is_done: whether the clip of this id, made of sources of this hash, is done: its pictures are hashed,
            but not decoded.

    Raises:
        FeatureError: with `on_bad="error"`, every problem of every picture.
    """

    def read(filename: str) -> Source[Faces] | None:
        paths = faces.get(filename, ())
        problems: list[Problem] = []
        hashes = []
        for path in paths:
            with collect_errors(problems):
                hashes.append(f"{path.name}:{sha256(read_feature_file(path))}")
        source = Source(filename, sha256(" ".join(hashes).encode()), len(paths), paths)
        if not problems and not is_done(filename, source.sha256):
            for path in paths:
                with collect_errors(problems):
                    read_face(path)
        if problems:
            raise FeatureError(problems)
        return source if paths else None

    return read_sources(reporter.track(ids, "reading faces", len(ids)), read, on_bad)


def find_pooling(pretrained: Pretrained, layer: int | None) -> Pooling:
    """What a row is, from the encoder's config alone.

    Raises:
        WeightsError: the encoder leaves patches out at random.
    """
    config = load_part(AutoConfig, pretrained)
    if getattr(config, "mask_ratio", 0):
        found = f"leaves {config.mask_ratio:.0%} of each picture out, at random, as it was pre-trained"
        raise WeightsError(Problem(pretrained.name, found, "an encoder of whole pictures"))
    with torch.device("meta"):
        model: Any = AutoModel.from_config(config)
    tower = getattr(model, "vision_model", None)
    if tower is not None and layer is None:
        return "pooled"
    names = [name.rpartition(".")[2] for name, _ in (tower or model).named_parameters()]
    if any(name in _CLASS_TOKENS for name in names):
        return "cls"
    return "pooled" if layer is None else "mean"


class VisionEncoder(FrameEncoder[Faces, Pictures]):
    """Turns faces into rows.

    Raises:
        WeightsError: it cannot be loaded, or gives no row a picture.
    """

    def __init__(self, pretrained: Pretrained, settings: EncoderSettings) -> None:
        # Pillow's, whether torchvision is installed or not: the two resize differently.
        self._processor = load_part(AutoImageProcessor, pretrained, backend="pil")
        self._pooling = find_pooling(pretrained, settings.layer)
        unused = () if self._pooling == "pooled" else ("pooler.", "layernorm_pooler.")
        model: Any = load_model(AutoModel, pretrained, unused)
        super().__init__(pretrained, settings, getattr(model, "vision_model", model))

    def group(self, sources: Sequence[Source[Faces]]) -> list[list[Source[Faces]]]:
        """Clips in their order, as many as have a batch of faces together; one that has more stands alone."""
        groups: list[list[Source[Faces]]] = []
        faces = 0
        for source in sources:
            faces += source.size
            if not groups or faces > self._settings.batch:
                groups.append([])
                faces = source.size
            groups[-1].append(source)
        return groups

    def prepare(self, sources: Sequence[Source[Faces]]) -> Pictures:
        """The faces as the encoder's own pre-processor leaves each of them."""
        values = [
            self._processor(
                read_face(path), input_data_format="channels_last", return_tensors="pt"
            ).pixel_values
            for source in sources
            for path in source.content
        ]
        return Pictures(torch.cat(values), [source.size for source in sources])

    def encode(self, prepared: Pictures) -> list[Float32]:
        """Rows (T, D) of each clip."""
        parts = prepared.values.split(self._settings.batch)
        rows = [self._pool(self._run(pixel_values=part)).float().cpu() for part in parts]
        return [clip.numpy() for clip in torch.cat(rows).split(prepared.counts)]

    def _pool(self, output: Any) -> Tensor:
        """Rows (N, D) of what the model gave for N pictures."""
        if self._pooling == "pooled":
            pooled: Tensor | None = output.pooler_output
            if pooled is None:
                raise WeightsError(
                    Problem(self._name, "has neither a class token nor pooled output", "a row a picture")
                )
            return pooled.flatten(1)  # ResNet's is (N, D, 1, 1)
        states = self._states(output)
        if self._pooling == "cls":
            return states[:, 0]
        # (N, places, D), or of a convolutional network (N, D, H, W)
        return states.mean(1) if states.ndim == 3 else states.flatten(2).mean(2)
