"""One thread per training: on a shared machine, threads that wait for each other are slow."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
