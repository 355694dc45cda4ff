"""Fusion: what a clip has decides, a learned vector stands for what is missing, and nothing else matters."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abaw_emi.batching.batches import collect_modalities, make_batch
from abaw_emi.batching.examples import Example
from abaw_emi.batching.loader import Loader
from abaw_emi.config.model import ModelConfig
from abaw_emi.config.parts import FeatureConfig, FusionConfig
from abaw_emi.config.run import TrainingConfig
from abaw_emi.core.cache import Cache
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.features.reader import FeatureClip
from abaw_emi.inference.predict import predict
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.fusion import Modalities
from abaw_emi.models.heads import Head
from abaw_emi.training.optimisation.gradients import Place
from abaw_emi.training.optimisation.step import TrainStep
from tests.backbones import small_config
from tests.small_models import CPU, make_clip

WIDTHS = {"vit": 5, "gte": 4}
Float32 = npt.NDArray[np.float32]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache("features", folder=tmp_path_factory.mktemp("cache"))


def keep(cache: Cache, number: int, arrays: Mapping[str, Float32]) -> FeatureClip:
    cached = {
        name: cache.cached(
            f"{name}:{values.tobytes().hex()}:{values.shape}", lambda values=values: (values, {})
        )
        for name, values in arrays.items()
    }
    return FeatureClip(filename=f"{number:05}", arrays=cached, source_hash=f"{number:064x}")


def draw(number: int, name: str) -> Float32:
    rng = np.random.default_rng([number, len(name), ord(name[0])])
    return rng.normal(1, 3, (1 + int(rng.integers(9)), WIDTHS[name])).astype(np.float32)


def build(
    kind: str, *, encoder: str = "none", seed: int = 0, auxiliary: tuple[float, float] = (0, 0), **parts: Any
) -> EmiModel:
    anchored = kind == "text-anchored"
    config = ModelConfig(
        encoder=encoder,  # type: ignore[arg-type]
        vad_head=False,
        features=(
            FeatureConfig(
                name="vit", temporal=("gru",), hidden_size=7, pooling="last", auxiliary_weight=auxiliary[0]
            ),
            FeatureConfig(name="gte", temporal=("tcn",), hidden_size=6, auxiliary_weight=auxiliary[1]),
        ),
        fusion=FusionConfig(kind=kind, **({"anchor": "gte"} if anchored else {}), **parts),  # type: ignore[arg-type]
        **({"lstm": False, "global_vector": False} if anchored else {}),
    )
    torch.manual_seed(seed)
    backbone = small_config() if encoder == "pretrained" else None
    model = EmiModel(EmiConfig.from_parts(config, backbone, WIDTHS))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model.eval()


def without_sound(features: FeatureClip, *, uses_audio: bool = False) -> Example:
    return Example.join(features.filename, None, features, uses_audio=uses_audio)


def make_clips(cache: Cache, has: list[tuple[bool, bool]]) -> list[Example]:
    examples = []
    for number, each in enumerate(has):
        names = [name for name, there in zip(WIDTHS, each, strict=True) if there]
        examples.append(without_sound(keep(cache, number, {name: draw(number, name) for name in names})))
    return examples


def intensities(model: EmiModel, clips: list[Example]) -> Float32:
    table = predict(model, clips, CPU)
    assert table["Filename"].to_list() == sorted(clip.filename for clip in clips)
    return table.select(EMOTIONS).to_numpy()


@pytest.mark.parametrize("kind", ["concatenate", "mean", "text-anchored"])
@settings(max_examples=25)
@given(
    has=st.lists(st.sampled_from([(True, True), (True, False), (False, True)]), min_size=1, max_size=6),
    data=st.data(),
)
def test_a_clip_is_predicted_alike_alone_and_among_others_in_any_order(
    cache: Cache, kind: str, has: list[tuple[bool, bool]], data: st.DataObject
) -> None:
    model = build(kind)
    clips = make_clips(cache, has)
    order = data.draw(st.permutations(range(len(clips))))
    together = intensities(model, [clips[number] for number in order])
    alone = np.concatenate([intensities(model, [clip]) for clip in clips])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_the_late_mean_is_over_the_heads_of_what_a_clip_has(cache: Cache) -> None:
    model = build("mean")
    clips = make_clips(cache, [(True, True), (True, False), (False, True)])
    both, vit, gte = intensities(model, clips)
    alone = [intensities(model, [without_sound(keep(cache, 0, {name: draw(0, name)}))])[0] for name in WIDTHS]
    np.testing.assert_allclose(both, (alone[0] + alone[1]) / 2, rtol=0, atol=1e-6)
    with torch.no_grad():
        for number, head, name, found in ((1, 0, "vit", vit), (2, 1, "gte", gte)):
            frames = torch.from_numpy(draw(number, name))[None]
            vector = model.branches[head](frames, torch.tensor([frames.shape[1]]))
            expected = model.late_mean.heads[head](vector)[0]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_the_anchor_finds_in_the_frames_what_attention_by_hand_finds(cache: Cache) -> None:
    """With the formulas of the winner of 2026 (source in `fusion`), clip by clip."""
    model = build("text-anchored")
    clips = make_clips(cache, [(True, True), (True, False), (False, True)])
    found = intensities(model, clips)
    fusion, (vit, gte) = model.anchored, model.branches
    look = fusion.attentions[0]
    size, heads = 512, 4
    with torch.no_grad():
        for number, clip in enumerate(clips):
            query, frames = fusion.missing_query, fusion.missing[0][None]
            if "gte" in clip.features:
                words = torch.from_numpy(draw(number, "gte"))[None]
                query = gte(words, torch.tensor([words.shape[1]]))[0]
            if "vit" in clip.features:
                faces = torch.from_numpy(draw(number, "vit"))[None]
                frames = vit.run(faces, torch.tensor([faces.shape[1]]))[0]
            q = look.q_norm(look.q_proj(query)).view(heads, size // heads)
            k = look.k_norm(look.k_proj(frames)).view(-1, heads, size // heads)
            v = look.v_proj(frames).view(-1, heads, size // heads)
            weights = (torch.einsum("hd,fhd->hf", q, k) / (size // heads) ** 0.5).softmax(dim=1)
            vector = look.out_proj(torch.einsum("hf,fhd->hd", weights, v).reshape(size))
            hidden = torch.nn.functional.gelu(fusion.dense(torch.cat([query, vector])))
            np.testing.assert_allclose(found[number], fusion.projection(hidden), rtol=0, atol=1e-5)


def test_a_learned_vector_stands_where_a_modality_is_missing_and_only_there(cache: Cache) -> None:
    model = build("concatenate")
    clips = make_clips(cache, [(True, True), (True, False), (False, True)])
    before = intensities(model, clips)
    with torch.no_grad():
        model.join.missing[1] += 1  # of gte, which the second clip lacks
    after = intensities(model, clips)
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert np.abs(after[1] - before[1]).max() > 1e-2


@pytest.mark.parametrize("kind", ["concatenate", "mean"])
@pytest.mark.parametrize("encoder", ["logmel", "pretrained"])
def test_a_clip_without_sound_is_predicted_from_its_features_alone_and_beside_others(
    cache: Cache, encoder: str, kind: str
) -> None:
    model = build(kind, encoder=encoder)
    features = keep(cache, 1, {"vit": draw(1, "vit")})
    silent = without_sound(features, uses_audio=True)
    heard = Example.join("00001", make_clip(1, 9_000), features)
    other = Example.join("00002", make_clip(2, 12_000))
    (alone,) = intensities(model, [silent])
    np.testing.assert_allclose(intensities(model, [other, silent])[0], alone, rtol=0, atol=1e-6)
    assert np.abs(intensities(model, [heard])[0] - alone).max() > 1e-3
    batches = [
        make_batch(examples, modalities=collect_modalities(examples, model.widths, uses_audio=True))
        for examples in ([silent], [other, silent])
    ]
    with torch.no_grad():
        for batch in batches:
            np.testing.assert_allclose(batch.run(model)[-1].numpy(), alone, rtol=0, atol=1e-6)


def test_a_batch_without_sound_runs_no_encoder(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("concatenate", encoder="pretrained")
    encoded: list[int] = []
    silent = [
        without_sound(keep(cache, number, {"vit": draw(number, "vit")}), uses_audio=True)
        for number in range(8)
    ]
    heard = Example.join("00009", make_clip(9, 9_000))
    run = model.encoder.forward

    def counted(waveforms: torch.Tensor, *rest: Any) -> Any:
        encoded.append(len(waveforms))
        return run(waveforms, *rest)

    monkeypatch.setattr(model.encoder, "forward", counted)
    intensities(model, silent)
    before = model.join.missing[0].clone()
    train_steps(model, silent, "mse")
    assert not torch.equal(model.join.missing[0], before)
    assert encoded == []
    intensities(model, [*silent, heard])
    assert encoded == [1]


def test_features_change_what_is_predicted_from_a_sound(cache: Cache) -> None:
    model = build("concatenate", encoder="logmel")
    with_faces, other_faces = (
        Example.join("00001", make_clip(1, 9_000), keep(cache, 1, {"vit": draw(number, "vit")}))
        for number in (1, 2)
    )
    assert np.abs(intensities(model, [with_faces]) - intensities(model, [other_faces])).max() > 1e-3


@given(
    present=st.lists(st.lists(st.booleans(), min_size=3, max_size=3).filter(any), min_size=1, max_size=50),
    dropout=st.floats(0, 0.99),
    one=st.booleans(),
)
def test_training_leaves_out_what_is_there_and_never_everything(
    present: list[list[bool]], dropout: float, one: bool
) -> None:
    config = FusionConfig(one_at_a_time=True) if one else FusionConfig(modality_dropout=dropout)
    before = torch.tensor(present)
    modalities = Modalities(frames={}, lengths={}, present=before)
    after = modalities.leave_out(config, np.random.default_rng(0)).present
    assert not (after & ~before).any(), "nothing is there that was not"
    assert after.any(dim=1).all()
    if one:
        assert (after.sum(dim=1) == 1).all()
    elif dropout == 0:
        assert torch.equal(after, before)


def test_each_modality_is_left_out_as_often_as_is_asked_for() -> None:
    modalities = Modalities(frames={}, lengths={}, present=torch.ones(40_000, 2, dtype=torch.bool))
    rng = np.random.default_rng(0)
    dropped = modalities.leave_out(FusionConfig(modality_dropout=0.3), rng).present
    # Left out on its own: .3 * .7; both at once keep one, each as often: + .3 * .3 / 2.
    assert (~dropped).float().mean(dim=0).tolist() == pytest.approx([0.255, 0.255], abs=0.01)
    single = modalities.leave_out(FusionConfig(kind="mean", one_at_a_time=True), rng).present
    assert single.float().mean(dim=0).tolist() == pytest.approx([0.5, 0.5], abs=0.01)


def train_steps(
    model: EmiModel, clips: list[Example], loss: str, steps: int = 6, **options: Any
) -> dict[str, torch.Tensor]:
    config = TrainingConfig(batch_size=8, group_size=2, learning_rate=1e-2, loss=loss, **options)
    labels = {clip.filename: np.full(6, number / 10, np.float32) for number, clip in enumerate(clips)}
    loader = Loader(examples=clips, labels=labels, model=model, config=config)
    train_step = TrainStep(model, config, CPU)
    model.train()
    for number in range(steps):
        indices = loader.plan(0)[0]
        step = loader.make(indices, 0, number)
        train_step.set_rate(1.0)
        train_step.run(step, Place(0, number), partial(loader.make, indices, 0, number)).check()
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("loss", ["mse", "pearson", "mse+0.5*ccc"])
def test_predictors_that_are_averaged_are_trained_as_if_the_other_were_not_there(
    loss: str, cache: Cache
) -> None:
    clips = make_clips(cache, [(True, True)] * 8)
    scrambled = [
        without_sound(keep(cache, number, {"vit": draw(number, "vit"), "gte": 1 - draw(number, "gte")}))
        for number in range(8)
    ]
    ends = [train_steps(build("mean", one_at_a_time=True), each, loss) for each in (clips, scrambled)]
    for name in ends[0]:
        if name.startswith(("branches.0.", "late_mean.heads.0.")):
            torch.testing.assert_close(ends[0][name], ends[1][name], rtol=0, atol=0, msg=name)
    other = "branches.1.temporal.0.entry.weight"
    assert not torch.equal(ends[0][other], ends[1][other])


@pytest.mark.parametrize(("first", "other"), [("mse", "smooth-l1"), ("mse", "pearson")])
def test_the_first_epoch_trains_with_an_nth_of_what_is_ramped_in(
    first: str, other: str, cache: Cache
) -> None:
    clips = make_clips(cache, [(True, True)] * 8)
    ramped = train_steps(build("mean"), clips, f"{first}+8*{other}", loss_beta=0.1, ramp_epochs=8)
    whole, expected = (
        train_steps(build("mean"), clips, f"{first}+{weight}*{other}", loss_beta=0.1) for weight in (8, 1)
    )
    for name in expected:
        torch.testing.assert_close(ramped[name], expected[name], rtol=0, atol=0, msg=name)
    assert any(not torch.equal(ramped[name], whole[name]) for name in whole)


def test_what_a_clip_leaves_out_does_not_depend_on_how_a_batch_is_cut(cache: Cache) -> None:
    model = build("concatenate", modality_dropout=0.5)
    clips = make_clips(cache, [(True, True)] * 8)
    labels = {clip.filename: np.zeros(6, np.float32) for clip in clips}
    kept = []
    for size in (8, 3, 1):
        loader = Loader(
            examples=clips,
            labels=labels,
            model=model,
            config=TrainingConfig(batch_size=8, group_size=size),
        )
        groups = loader.make(loader.plan(0)[0], 0, 0).groups
        assert all(group.modalities is not None for group in groups)
        kept.append(
            {
                filename: row.tolist()
                for group in groups
                for filename, row in zip(group.filenames, group.modalities.present, strict=True)  # type: ignore[union-attr]
            }
        )
    assert kept[0] == kept[1] == kept[2]
    assert [False] not in kept[0].values()
    assert any(not all(row) for row in kept[0].values())


def test_a_head_with_all_options_is_norm_dense_gelu_projection_sigmoid() -> None:
    torch.manual_seed(0)
    config = FusionConfig(
        head_size=4, head_activation="gelu", head_norm=True, head_dropout=0.5, head_output="sigmoid"
    )
    head = Head(5, config, dense=True).double()
    vector = torch.randn(3, 5, dtype=torch.float64)
    x = (vector - vector.mean(1, keepdim=True)) / (vector.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    x = x @ head.dense.weight.T + head.dense.bias
    x = x * (1 + torch.erf(x / 2**0.5)) / 2
    kept = []
    for dropped in (False, True):
        torch.manual_seed(1)
        mask = 2.0 * (torch.nn.functional.dropout(torch.ones_like(x), 0.5) > 0) if dropped else 1.0
        logits = (mask * x) @ head.projection.weight.T + head.projection.bias
        torch.manual_seed(1)
        found = head.train(dropped)(vector)
        torch.testing.assert_close(found, 1 / (1 + torch.exp(-logits)), rtol=0, atol=1e-5)
        kept.append(found)
    assert not torch.allclose(*kept, atol=1e-3)


@pytest.mark.parametrize("kind", ["concatenate", "text-anchored"])
def test_a_gate_multiplies_each_intensity_and_its_logits_are_for_the_loss_alone(
    cache: Cache, kind: str, tmp_path: Path
) -> None:
    build(kind, gate=True).save_pretrained(tmp_path)
    model = EmiModel.from_pretrained(tmp_path).eval()
    clips = make_clips(cache, [(True, True), (True, False), (False, True)])
    modalities = collect_modalities(clips, model.widths, uses_audio=False)
    with torch.no_grad():
        gated, logits = model.regress(None, torch.zeros(3), modalities, for_loss=True).split(6, dim=1)
        head = model.head if kind == "concatenate" else model.anchored
        head.gate.dense.weight.zero_()
        head.gate.dense.bias.fill_(50.0)  # a gate that is open for all
        open_ = torch.from_numpy(intensities(model, clips))
    torch.testing.assert_close(gated, logits.sigmoid() * open_, rtol=0, atol=1e-6)
    assert intensities(model, clips).shape == (3, 6)


def test_a_branch_with_a_head_of_its_own_tells_the_loss_what_it_predicts_alone(
    cache: Cache, tmp_path: Path
) -> None:
    build("concatenate", auxiliary=(0.0, 0.3)).save_pretrained(tmp_path)
    model = EmiModel.from_pretrained(tmp_path).eval()
    clips = make_clips(cache, [(True, True), (True, False), (False, True)])
    modalities = collect_modalities(clips, model.widths, uses_audio=False)
    with torch.no_grad():
        outputs = model.regress(None, torch.zeros(3), modalities, for_loss=True)
        vectors = model.branches[1](modalities.frames["gte"], modalities.lengths["gte"])
        alone = model.auxiliary.heads[0].projection(vectors)
    np.testing.assert_array_equal(outputs[:, :6], intensities(model, clips))
    torch.testing.assert_close(outputs[:, 6:12], alone, rtol=0, atol=1e-6)
    assert outputs[:, 12].tolist() == [1, 0, 1]
    assert outputs.shape[1] == model.output_width == 13
    with pytest.raises(ValueError, match='for fusion of kind "concatenate"'):
        build("mean", auxiliary=(0.1, 0.0))


def test_a_head_without_options_is_dense_tanh_projection_and_has_these_weights_alone() -> None:
    torch.manual_seed(0)
    head = Head(5, FusionConfig(), dense=True)
    assert [name.partition(".")[0] for name in head.state_dict()] == ["dense"] * 2 + ["projection"] * 2
    vector = torch.randn(3, 5)
    torch.testing.assert_close(head(vector), head.projection(torch.tanh(head.dense(vector))), rtol=0, atol=0)


def test_text_anchored_fusion_refuses_options_of_the_other_heads() -> None:
    with pytest.raises(ValueError, match="text-anchored fusion has a head of its own"):
        FusionConfig(kind="text-anchored", head_output="sigmoid")
