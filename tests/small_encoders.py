"""Small stand-ins for published encoders, as the hub delivers them: config, weights, pre-processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    ConvNextConfig,
    ConvNextModel,
    Data2VecAudioConfig,
    Data2VecAudioModel,
    Dinov2Config,
    Dinov2Model,
    DistilBertConfig,
    DistilBertModel,
    GenerationConfig,
    HubertConfig,
    HubertModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
    SeamlessM4TFeatureExtractor,
    UniSpeechConfig,
    UniSpeechModel,
    UniSpeechSatConfig,
    UniSpeechSatModel,
    ViTConfig,
    ViTModel,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tests.backbones import small_config

WAVEFORM_ENCODERS = ("wav2vec2", "wav2vec2-group", "hubert", "hubert-group", "wavlm", "data2vec")
SPEECH_ENCODERS = (
    *WAVEFORM_ENCODERS,
    "hubert-plain",
    "unispeech",
    "unispeech-sat",
    "wavlm-group",
    "wav2vec2-bert",
    "whisper",
)
"""Of these, too, `write_audio` makes one."""

TEXT_ENCODERS = ("bert", "roberta", "distilbert", "gte", "new")
VISION_ENCODERS = ("vit", "dinov2", "convnext", "clip")

_TRANSFORMER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
_PICTURE = {"image_size": 32, "patch_size": 8}
_WORDS = ("i", "am", "so", "happy", "for", "you", "we", "did", "it", "ha")


def _shake(model: PreTrainedModel, seed: int, by: float = 0.05) -> PreTrainedModel:
    """Moves every weight, so that no bias is zero and no scale is one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(by * torch.randn(weight.shape, generator=generator))
    return model


def write_audio(folder: Path, kind: str, seed: int = 0) -> Path:
    """An encoder of `SPEECH_ENCODERS`; wav2vec2 as an ASR checkpoint, as the published ones are."""
    if kind == "whisper":
        return write_whisper(folder, seed)
    torch.manual_seed(seed)
    norm = "group" if kind.endswith("-group") else "layer"
    config = {key: value for key, value in small_config(norm).items() if key != "model_type"}
    model: Any
    if kind in ("wav2vec2", "wav2vec2-group"):
        model = Wav2Vec2ForCTC(Wav2Vec2Config(**config, vocab_size=8))
    elif kind.startswith("hubert"):
        model = HubertModel(HubertConfig(**config, feat_proj_layer_norm=kind != "hubert-plain"))
    elif kind == "unispeech":
        model = UniSpeechModel(UniSpeechConfig(**config))
    elif kind == "unispeech-sat":
        model = UniSpeechSatModel(UniSpeechSatConfig(**config))
    elif kind == "wav2vec2-bert":
        model = Wav2Vec2BertModel(
            Wav2Vec2BertConfig(**_TRANSFORMER, layerdrop=0.1, conv_depthwise_kernel_size=7)
        )
        SeamlessM4TFeatureExtractor().save_pretrained(folder)
        _shake(model, seed).save_pretrained(folder)
        return folder
    elif kind.startswith("wavlm"):
        model = WavLMModel(WavLMConfig(**config, num_buckets=32, max_bucket_distance=64))
    else:
        del config["num_conv_pos_embeddings"], config["feat_extract_norm"]
        extra = {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5}
        model = Data2VecAudioModel(Data2VecAudioConfig(**config, **extra))
    _shake(model, seed).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=norm == "layer").save_pretrained(folder)
    return folder


def write_vision(folder: Path, kind: str, seed: int = 0) -> Path:
    """A vision encoder of `VISION_ENCODERS`."""
    torch.manual_seed(seed)
    model: Any
    if kind == "vit":
        model = ViTModel(ViTConfig(**_TRANSFORMER, **_PICTURE), add_pooling_layer=False)
    elif kind == "dinov2":
        model = Dinov2Model(Dinov2Config(**_TRANSFORMER, **_PICTURE))
    elif kind == "convnext":
        model = ConvNextModel(ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1]))
    else:
        text, vision = (
            CLIPTextConfig(**_TRANSFORMER, vocab_size=30),
            CLIPVisionConfig(**_TRANSFORMER, **_PICTURE),
        )
        model = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict()))
    _shake(model, seed).save_pretrained(folder)
    if kind == "convnext":
        ConvNextImageProcessorPil(size={"shortest_edge": 32}).save_pretrained(folder)
    else:
        ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def write_text(folder: Path, seed: int = 0, kind: str = "bert") -> Path:
    """An encoder of `TEXT_ENCODERS` that knows ten words and reads 16 tokens."""
    vocab = {
        word: place for place, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_WORDS])
    }
    BertTokenizer(vocab=vocab, model_max_length=16).save_pretrained(folder)
    torch.manual_seed(seed)
    size: dict[str, Any] = {"vocab_size": len(vocab), "pad_token_id": 0}
    model: Any
    if kind == "bert":
        model = BertModel(BertConfig(**_TRANSFORMER, **size, max_position_embeddings=16))
    elif kind == "roberta":  # whose positions begin after its padding
        model = RobertaModel(RobertaConfig(**_TRANSFORMER, **size, max_position_embeddings=17))
    elif kind == "distilbert":
        sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}
        model = DistilBertModel(DistilBertConfig(**sizes, **size, max_position_embeddings=16))
    else:
        from transformers import GteConfig, GteModel  # of a newer transformers than the others

        model = GteModel(GteConfig(**_TRANSFORMER, **size, max_position_embeddings=16))
    _shake(model, seed).save_pretrained(folder)
    if kind == "new":
        _name_as_published(folder)
    return folder


def _name_as_published(folder: Path) -> None:
    """Gives a gte the config and the names of weights of Alibaba-NLP/gte-en-mlm-base on the hub."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    code = {"AutoConfig": "configuration.NewConfig", "AutoModel": "modeling.NewModel"}
    path.write_text(
        json.dumps(config | {"model_type": "new", "architectures": ["NewForMaskedLM"], "auto_map": code})
    )
    weights = load_file(folder / "model.safetensors")
    published = {name if name.startswith("new.") else f"new.{name}": w for name, w in weights.items()}
    save_file(published, folder / "model.safetensors", {"format": "pt"})


_SPECIAL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|de|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)


def write_whisper(folder: Path, seed: int = 0, *, english: bool = False, length: int = 12) -> Path:
    """A Whisper that babbles in letters, `length` tokens a segment."""
    letters = sorted(ByteLevel.alphabet())
    ids = {token: place for place, token in enumerate([*letters, *_SPECIAL])}
    times = [f"<|{0.02 * step:.2f}|>" for step in range(1501)]
    plain = {token: place for token, place in ids.items() if place <= len(letters)}
    tokenizer = WhisperTokenizer(vocab=plain, merges=[], additional_special_tokens=list(_SPECIAL[1:]))
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in times])
    assert tokenizer.convert_tokens_to_ids("<|notimestamps|>") == ids["<|notimestamps|>"]
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=8).save_pretrained(folder)
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    special = {"pad_token_id": end, "bos_token_id": end, "eos_token_id": end, "decoder_start_token_id": start}
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(ids) + len(times),
            d_model=16,
            encoder_layers=2,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            num_mel_bins=8,
            max_target_positions=64,
            suppress_tokens=None,
            begin_suppress_tokens=None,
            **special,
        )
    )
    _shake(model, seed, 0.3)
    with torch.no_grad():  # what it says follows from what it hears, and is of letters and a few time stamps
        model.model.decoder.embed_tokens.weight[len(ids) :] *= 0.3
        model.model.decoder.layers[0].encoder_attn.out_proj.weight *= 4
    model.generation_config = GenerationConfig(
        is_multilingual=not english,
        **({} if english else {"lang_to_id": {"<|en|>": ids["<|en|>"], "<|de|>": ids["<|de|>"]}}),
        **(
            {}
            if english
            else {"task_to_id": {task: ids[f"<|{task}|>"] for task in ("translate", "transcribe")}}
        ),
        no_timestamps_token_id=ids["<|notimestamps|>"],
        max_length=length,
        max_initial_timestamp_index=50,
        return_timestamps=False,
        prev_sot_token_id=ids["<|startofprev|>"],
        suppress_tokens=[place for token, place in ids.items() if not (token.isascii() and token.isalpha())],
        **special,
    )
    model.save_pretrained(folder)
    return folder
