"""Types of arrays."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
"""Intensities and scores: evaluation works in float64."""

Float32 = npt.NDArray[np.float32]
"""Waveforms, features and frames."""
