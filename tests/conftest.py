"""Fixtures that several test files share."""

import os
import tempfile
from pathlib import Path

import pytest
import torch

# The pictures are tiny: sharing them between threads costs more than it brings, and far more on a
# busy machine.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def own_cache():
    """Keeps the tests' models out of the user's cache."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "VSR_CACHE", folder)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test data beside the repository; a test that needs it is skipped where it
    is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real test data (../shared/data) is not on this machine")
    return folder
