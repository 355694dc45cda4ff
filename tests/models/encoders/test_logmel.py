import pytest

torch = pytest.importorskip("torch")

from abaw_emi.models.encoders.logmel import LogMelConfig, LogMelEncoder, mel_filters  # noqa: E402

LENGTHS = (400, 719, 720, 1_024, 16_001, 48_000, 192_000)


def make(dtype: torch.dtype) -> LogMelEncoder:
    torch.manual_seed(0)
    return LogMelEncoder(LogMelConfig()).to(dtype).eval()


def batch(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    waveforms = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=dtype)
    for row, length in zip(waveforms, LENGTHS, strict=True):
        row[:length] = torch.randn(length, generator=generator, dtype=dtype)
    return waveforms, torch.tensor(LENGTHS)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_a_clip_does_not_depend_on_its_neighbours(dtype: torch.dtype, tolerance: float) -> None:
    encoder = make(dtype)
    waveforms, lengths = batch(dtype)
    encoder.fit_scale([(waveforms, lengths)])
    with torch.no_grad():
        together, frames = encoder(waveforms, lengths)
        for row, length in enumerate(LENGTHS):
            alone, alone_frames = encoder(waveforms[row : row + 1, :length], lengths[row : row + 1])
            assert alone_frames.item() == frames[row] == (length - 400) // 320 + 1 == alone.shape[1]
            assert (together[row, : frames[row]] - alone[0]).abs().max() < tolerance
            assert not together[row, frames[row] :].any()


def test_garbage_in_the_padding_does_not_matter() -> None:
    encoder = make(torch.float32)
    waveforms, lengths = batch(torch.float32)
    dirty = waveforms.clone()
    for row, length in zip(dirty, LENGTHS, strict=True):
        row[length:] = float("nan")
    with torch.no_grad():
        assert torch.equal(encoder(waveforms, lengths)[0], encoder(dirty, lengths)[0])
        encoder.fit_scale([(waveforms, lengths)])
        mean = encoder.feature_mean.clone()
        encoder.fit_scale([(dirty, lengths)])
    assert torch.equal(mean, encoder.feature_mean)


def test_gradients_reach_every_weight_and_dropout_is_torchs() -> None:
    encoder = make(torch.float32).train()
    waveforms, lengths = batch(torch.float32)
    torch.manual_seed(3)
    first = encoder(waveforms, lengths)[0]
    torch.manual_seed(3)
    assert torch.equal(first, encoder(waveforms, lengths)[0])
    assert not torch.equal(first, encoder(waveforms, lengths)[0])
    first.square().mean().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in encoder.parameters())


def test_bfloat16_autocast_keeps_the_log_mels_single() -> None:
    encoder = make(torch.float32)
    waveforms, lengths = batch(torch.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert encoder._features(waveforms, lengths)[0].dtype == torch.float32
        hidden, _ = encoder(waveforms, lengths)
    assert hidden.isfinite().all()


@pytest.mark.parametrize(("bins", "mels"), [(201, 40), (257, 64), (513, 128)])
def test_the_mel_filters_are_those_of_torchaudio_bit_by_bit(bins: int, mels: int) -> None:
    theirs = pytest.importorskip("torchaudio").functional.melscale_fbanks(bins, 0.0, 8_000.0, mels, 16_000)
    assert torch.equal(mel_filters(bins, mels), theirs)
