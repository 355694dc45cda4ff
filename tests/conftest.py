from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

# Other work on the machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the tests, and the processes that they start, out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABAW_EMI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
