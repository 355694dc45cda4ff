"""From the official data of the ABAW Emotional Mimicry Intensity challenge to a checked submission.

Importing this package loads the light wing's names on first use, and never torch.
"""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("abaw-emi")
