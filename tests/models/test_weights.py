from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2Model

from abaw_emi.config.model import ModelConfig
from abaw_emi.core.errors import WeightsError
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.hub import find_backbone
from abaw_emi.models.weight_files import read_weights
from abaw_emi.models.weights import load_backbone, make_model
from tests.backbones import AUDEERING, backbone_weights, small_config, write_backbone, write_hub_cache

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = small_config()
NEW_NAMES = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}


def write(folder: Path, weights: dict[str, Tensor], config: dict[str, Any] = CONFIG) -> Path:
    """A backbone of these weights, as safetensors."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors")
    return folder


def new_model(config: dict[str, Any] = CONFIG, **parts: Any) -> EmiModel:
    torch.manual_seed(1_234)
    return EmiModel(EmiConfig.from_parts(ModelConfig(**parts), config))


def load(folder: Path, model: EmiModel | None = None) -> tuple[EmiModel, list[str]]:
    model = new_model() if model is None else model
    warnings = load_backbone(model, find_backbone(str(folder)))
    return model, [str(problem) for problem in warnings]


def assert_filled(model: EmiModel, weights: dict[str, Tensor]) -> None:
    """Every weight of encoder and VAD head is the file's, and the rest is untouched."""
    state = model.state_dict()
    filled = set()
    for name, value in weights.items():
        parent, _, last = name.rpartition(".")
        name = f"{parent}.{NEW_NAMES.get(last, last)}"
        ours = name.replace("classifier.", "vad_head.", 1).replace("wav2vec2.", "encoder.wav2vec2.", 1)
        if ours in state:
            assert torch.equal(state[ours], value), name
            filled.add(ours)
    assert {name for name in state if name.startswith(("encoder.", "vad_head."))} == filled
    torch.manual_seed(1_234)
    for name, value in EmiModel(model.config).state_dict().items():
        if not name.startswith(("encoder.", "vad_head.")):
            assert torch.equal(state[name], value), name


def test_a_folder_with_pytorch_model_bin_fills_encoder_and_vad_head(tmp_path: Path) -> None:
    model, warnings = load(write_backbone(tmp_path / "backbone"))
    assert warnings == []
    assert_filled(model, backbone_weights(CONFIG))


def test_a_folder_with_safetensors_fills_encoder_and_vad_head(tmp_path: Path) -> None:
    weights = backbone_weights(CONFIG, seed=5)
    model, warnings = load(write(tmp_path / "backbone", weights))
    assert warnings == []
    assert_filled(model, weights)


def test_safetensors_are_read_before_pytorch_model_bin(tmp_path: Path) -> None:
    weights = backbone_weights(CONFIG, seed=5)
    folder = write(tmp_path / "backbone", weights)
    torch.save(backbone_weights(CONFIG, seed=6), folder / "pytorch_model.bin")
    assert_filled(load(folder)[0], weights)


def test_shards_are_read_as_a_whole_file_and_each_is_needed(tmp_path: Path) -> None:
    config = {**CONFIG, "model_type": "wav2vec2"}
    theirs = Wav2Vec2Model(Wav2Vec2Config(**config))
    for name, size in (("whole", "1GB"), ("shards", "40KB")):
        theirs.save_pretrained(tmp_path / name, max_shard_size=size)
    whole, shards = (load(tmp_path / name, new_model(vad_head=False))[0] for name in ("whole", "shards"))
    files = sorted((tmp_path / "shards").glob("model-*.safetensors"))
    assert len(files) > 2
    assert {file.name for file in files} <= {file.name for file in find_backbone(str(files[0].parent)).files}
    for name, value in whole.state_dict().items():
        assert torch.equal(value, shards.state_dict()[name]), name
    files[1].unlink()
    with pytest.raises(WeightsError, match=f"{files[1].name}' is no file beside it; expected all shards"):
        load(tmp_path / "shards", new_model(vad_head=False))


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_what_transformers_itself_saves_is_read(tmp_path: Path, norm: str) -> None:
    config = small_config(norm)
    theirs = Wav2Vec2Model(Wav2Vec2Config(**config))
    theirs.save_pretrained(tmp_path)  # no prefix, no VAD head, its own config.json
    backbone = find_backbone(str(tmp_path))
    model = new_model(backbone.config, vad_head=False)
    assert load_backbone(model, backbone) == []
    assert_filled(model, {f"wav2vec2.{name}": value for name, value in theirs.state_dict().items()})


def test_new_names_of_the_weight_norm_are_read(tmp_path: Path) -> None:
    weights = {}
    for name, value in backbone_weights(CONFIG).items():
        parent, _, last = name.rpartition(".")
        weights[f"{parent}.{NEW_NAMES.get(last, last)}"] = value
    assert_filled(load(write(tmp_path / "backbone", weights))[0], weights)


def test_weights_that_the_model_has_no_use_for_are_left(tmp_path: Path) -> None:
    weights = backbone_weights(CONFIG)
    strays = {"lm_head.weight": torch.zeros(2), "quantizer.codevectors": torch.zeros(2)}
    assert_filled(load(write(tmp_path / "backbone", weights | strays))[0], weights)


@pytest.mark.parametrize("prefix", ["wav2vec2.", ""])
def test_every_single_backbone_weight_is_missed_by_name(tmp_path: Path, prefix: str) -> None:
    folder = tmp_path / "backbone"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    weights = {
        prefix + name.removeprefix("wav2vec2."): value
        for name, value in backbone_weights(CONFIG).items()
        if name.startswith("wav2vec2.") and not name.endswith("masked_spec_embed")
    }
    assert len(weights) > 50
    model = new_model(vad_head=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for gone in weights:
        save_file({k: v for k, v in weights.items() if k != gone}, folder / "model.safetensors")
        with pytest.raises(WeightsError, match=r"missing weights \(1\)") as caught:
            load(folder, model)
        parent, _, last = gone.removeprefix("wav2vec2.").rpartition(".")
        assert f"{prefix}{parent}.{NEW_NAMES.get(last, last)}" in str(caught.value)
        assert str(folder) in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("gone", ["dense.bias", "out_proj.weight", "out_proj.bias"])
def test_half_a_vad_head_is_an_error_that_names_the_other_half(tmp_path: Path, gone: str) -> None:
    weights = backbone_weights(CONFIG)
    del weights[f"classifier.{gone}"]
    with pytest.raises(WeightsError, match=rf"missing weights \(1\): classifier\.{gone}"):
        load(write(tmp_path / "backbone", weights))


def test_a_checkpoint_without_vad_head_is_refused_with_what_to_set(tmp_path: Path) -> None:
    weights = {k: v for k, v in backbone_weights(CONFIG).items() if k.startswith("wav2vec2.")}
    folder = write(tmp_path / "backbone", weights)
    with pytest.raises(WeightsError, match=r"no VAD head.*--set model\.vad_head=false"):
        load(folder)
    assert_filled(load(folder, new_model(vad_head=False))[0], weights)


def test_a_checkpoint_without_mask_vector_is_a_warning(tmp_path: Path) -> None:
    weights = backbone_weights(CONFIG)
    del weights["wav2vec2.masked_spec_embed"]
    model = new_model()
    before = model.state_dict()["encoder.wav2vec2.masked_spec_embed"].clone()
    _, warnings = load(write(tmp_path / "backbone", weights), model)
    assert len(warnings) == 1
    assert "masked_spec_embed" in warnings[0]
    assert torch.equal(model.state_dict()["encoder.wav2vec2.masked_spec_embed"], before)
    assert_filled(model, weights | {"wav2vec2.masked_spec_embed": before})


def test_a_weight_of_another_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    weights = backbone_weights(CONFIG)
    weights["wav2vec2.encoder.layers.0.attention.q_proj.bias"] = torch.zeros(31)
    with pytest.raises(WeightsError, match=r"layers\.0\.attention\.q_proj\.bias: shape \(31,\).*\(32,\)"):
        load(write(tmp_path / "backbone", weights))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (torch.ones(3, 4, dtype=torch.int32), "int32 numbers; expected floats"),
        (torch.full((3, 4), 1e300, dtype=torch.float64), "a value that is not finite in float32"),
        (torch.ones(3, 4, dtype=torch.complex64), ""),
    ],
)
def test_numbers_that_are_no_float32_are_named(values: Tensor, found: str, tmp_path: Path) -> None:
    weights = backbone_weights(CONFIG)
    key = "classifier.out_proj.bias"
    weights[key] = values.reshape(-1)[: len(weights[key])].clone()
    folder = write(tmp_path / "backbone", weights)
    with pytest.raises(WeightsError) as caught:
        load(folder)
    assert "weights_only" not in str(caught.value)
    if found:
        assert str(caught.value).endswith(f", {key}: {found}")


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": "x"},
        {"conv_dim": None},
        {"num_attention_heads": 0},
        {"conv_kernel": [1]},
    ],
    ids=str,
)
def test_a_config_that_describes_no_model_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    backbone = find_backbone(str(write(tmp_path / "backbone", {"x": torch.ones(1)}, CONFIG | change)))
    with pytest.raises(WeightsError, match=r"config\.json: describes no model: "):
        make_model(ModelConfig(backbone=str(tmp_path)), backbone)


def test_a_weight_that_is_not_finite_is_named(tmp_path: Path) -> None:
    weights = backbone_weights(CONFIG)
    weights["classifier.dense.weight"][0, 0] = float("nan")
    with pytest.raises(WeightsError, match=r"classifier\.dense\.weight: a value that is not finite"):
        load(write(tmp_path / "backbone", weights))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (json.dumps(CONFIG | {"model_type": "bert"}), "model_type is 'bert'"),
        ("{}", "model_type is None"),
        ("[1]", "model_type is None"),
        ("{", "cannot be read"),
    ],
)
def test_a_folder_that_is_no_speech_encoder_is_refused(tmp_path: Path, text: str, found: str) -> None:
    folder = write_backbone(tmp_path / "backbone")
    (folder / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=rf"config\.json: {found}"):
        find_backbone(str(folder))


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        find_backbone(str(tmp_path))
    assert str(caught.value) == f"{tmp_path}: a folder without config.json; expected that of a model"
    write_backbone(tmp_path / "speech")
    with pytest.raises(WeightsError, match=rf"; did you mean {tmp_path / 'speech'}\?$"):
        find_backbone(str(tmp_path))


@pytest.mark.usefixtures("cache")
def test_a_folder_that_is_nearly_named_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("speech", "words"):
        write_backbone(Path("enc") / name)
    for name, meant in (("enc/speeech", "enc/speech"), ("enc/x", "enc/speech, enc/words")):
        with pytest.raises(WeightsError, match=rf"^{name}: no such folder, and .*; did you mean {meant}\?$"):
            find_backbone(name)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(WeightsError, match=r"no weights; expected model\.safetensors or pytorch_model\.bin"):
        load(tmp_path)


def test_an_adapter_on_top_is_refused() -> None:
    with pytest.raises(WeightsError, match="add_adapter"):
        new_model(CONFIG | {"add_adapter": True})


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kept", [0, 7, 1_000, -1])
def test_truncated_weights_are_refused(tmp_path: Path, name: str, kept: int) -> None:
    weights = backbone_weights(CONFIG)
    if name.endswith("bin"):
        torch.save(weights, tmp_path / name)
    else:
        save_file(weights, tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:kept])
    with pytest.raises(WeightsError, match=f"{name}: (not readable as safetensors|is no whole)"):
        read_weights(tmp_path)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_code_in_a_backbones_weights_is_refused_and_not_run(tmp_path: Path) -> None:
    file = write_backbone(tmp_path / "backbone") / "pytorch_model.bin"
    target = tmp_path / "executed"
    torch.save(backbone_weights(CONFIG) | {"more": Bomb(target)}, file)
    with pytest.raises(WeightsError, match=r"names posix\.mkdir, which is neither imported nor called"):
        load(file.parent)
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(target)))  # a real one
    assert target.is_dir()


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (b"cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x01\x85R.", r"names builtins\.bytearray"),
        (b"}(" + b")" + b"q\x00h\x00\x86" * 64 + b"Nu.", "a key that is no text"),
        (
            b"c_codecs\nencode\n" * 9 + b"C\x01x" + b"X\x03\x00\x00\x00hex\x86R" * 9 + b".",
            "call of _codecs.encode",
        ),
        (b"K\x01r\xff\xff\xff\x7f.", "damaged memo"),
    ],
    ids=["4 GiB", "2**64 tuples", "doubled again and again", "a memo of 2**31"],
)
def test_a_small_file_of_weights_takes_no_memory_and_no_time(
    tmp_path: Path, content: bytes, reported: str, as_zip: bool
) -> None:
    file = tmp_path / "pytorch_model.bin"
    if as_zip:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", content)
    else:
        file.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match=reported):
            read_weights(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


# The hub: its cache, and what happens where it cannot help.


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.mark.parametrize("revision", ["main", "v2"])
def test_the_hubs_local_cache_is_read_and_its_commit_told(cache: Path, revision: str) -> None:
    commit = write_hub_cache(cache, revision=revision)
    backbone = find_backbone(AUDEERING, revision)
    assert (backbone.name, backbone.commit) == (AUDEERING, commit)
    model = new_model(backbone.config)
    assert load_backbone(model, backbone) == []
    assert_filled(model, backbone_weights(CONFIG))
    assert find_backbone(AUDEERING, commit).commit == commit


def test_a_folder_has_no_commit(tmp_path: Path) -> None:
    assert find_backbone(str(write_backbone(tmp_path / "backbone"))).commit is None


@pytest.mark.parametrize(("name", "revision"), [("nobody/nothing", "main"), (AUDEERING, "other")])
def test_a_backbone_that_is_not_in_the_cache_is_refused_with_what_to_do(
    cache: Path, name: str, revision: str
) -> None:
    write_hub_cache(cache)
    with pytest.raises(WeightsError) as caught:
        find_backbone(name, revision)
    assert str(caught.value).startswith(f"{name}: revision {revision!r} is neither in the hub's local cache")
    command = f"hf download {name}" + ("" if revision == "main" else f" --revision {revision}")
    assert f"where there is a network: {command}; or give --backbone a folder" in str(caught.value)


@pytest.mark.parametrize("name", ["no/such/folder", "/no/such/folder", "two words", "a//b"])
def test_what_can_be_no_hub_id_is_told_so(cache: Path, name: str) -> None:
    with pytest.raises(WeightsError, match="neither a folder nor a hub id"):
        find_backbone(name)


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], list[str]]]:
    """Starts a hub on this machine that answers everything with one status; the requests it got."""
    servers = []

    def start(status: int) -> list[str]:
        requests: list[str] = []

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append(self.path)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_GET  # noqa: N815 - http.server's own name

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        return requests

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_a_hub_that_refuses_is_a_message_soon(hub: Callable[[int], list[str]], status: int) -> None:
    requests = hub(status)
    begin = time.monotonic()
    with pytest.raises(WeightsError, match="nobody/nothing: revision 'main'"):
        find_backbone("nobody/nothing")
    assert requests
    assert time.monotonic() - begin < 10


def test_a_hub_that_refuses_does_not_hide_the_local_cache(
    cache: Path, hub: Callable[[int], list[str]]
) -> None:
    commit = write_hub_cache(cache)
    requests = hub(503)
    assert find_backbone(AUDEERING).commit == commit
    assert requests


@pytest.mark.parametrize("network", ["refuses", pytest.param("is silent", marks=pytest.mark.exact)])
def test_the_environment_names_the_cache_and_a_dead_network_does_not_hang(
    network: str, tmp_path: Path
) -> None:
    commit = write_hub_cache(tmp_path / "hub")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    code = f"""
from abaw_emi.core.errors import WeightsError
from abaw_emi.models.hub import find_backbone
print(find_backbone({AUDEERING!r}).commit)
try:
    find_backbone("nobody/nothing")
except WeightsError as error:
    print(error)
"""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if network == "is silent":
            server.listen()  # the kernel accepts connections, and nobody answers them
        environment |= {
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_HOME": str(tmp_path / "home"),
            "HF_ENDPOINT": f"http://127.0.0.1:{server.getsockname()[1]}",
            "HF_HUB_ETAG_TIMEOUT": "1",
        }
        # Only a wait without end meets the limit: on a busy machine the imports alone may take minutes.
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            timeout=600,
            check=True,
        )
    first, *message = done.stdout.splitlines()
    assert first == commit
    assert message[0].startswith("nobody/nothing: revision 'main' is neither")
    assert ("did not answer within 1 s" in message[0]) == (network == "is silent")
    assert "hf download" in message[-1]
    assert len(message) == 1
