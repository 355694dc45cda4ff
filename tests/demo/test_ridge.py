import numpy as np

from abaw_emi.demo.baseline import fit_ridge, log_mel_statistics


def test_recovers_a_planted_linear_relation() -> None:
    rng = np.random.default_rng(0)
    shapes = rng.uniform(-0.95, 0.95, 240)
    noise = rng.standard_normal((240, 8_000))
    # A first-order filter of a driven sign and strength tilts the spectrum.
    waveforms = [
        (sound[1:] + shape * sound[:-1]).astype(np.float32)
        for sound, shape in zip(noise, shapes, strict=True)
    ]
    features = np.stack([log_mel_statistics(waveform) for waveform in waveforms])
    truth = features[:, [0, 5, 10, 20, 30, 39]]
    ridge = fit_ridge(features[:160], truth[:160])
    prediction = ridge.predict(features[160:])
    for column in range(6):
        assert np.corrcoef(truth[160:, column], prediction[:, column])[0, 1] > 0.95


def test_loudness_does_not_matter_and_one_frame_is_enough() -> None:
    waveform = np.random.default_rng(1).standard_normal(400).astype(np.float32)
    assert np.isfinite(log_mel_statistics(waveform)).all()
    np.testing.assert_allclose(log_mel_statistics(waveform), log_mel_statistics(waveform / 50), atol=1e-2)
