"""`preprocessor_config.json`: how others prepare sound for a run's model. Imports no torch.

The file is that of transformers' Wav2Vec2FeatureExtractor. The toolkit itself does not read it.
"""

from __future__ import annotations

import json

from abaw_emi.core.constants import SAMPLE_RATE
from abaw_emi.core.files import write_bytes
from abaw_emi.runs.run import Run


def write_preprocessor(run: Run, *, standardises: bool) -> None:
    """Writes the file into a run folder; for systems that read sound.

    Args:
        run: the run.
        standardises: whether its model is given waveforms of zero mean and unit variance.
    """
    settings = {
        "do_normalize": standardises,
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,  # its sum is the `lengths` of the model
        "sampling_rate": SAMPLE_RATE,
    }
    write_bytes(run.preprocessor_file, (json.dumps(settings, indent=2) + "\n").encode())
