"""One thread for each training: the machine that tests is shared, and threads that wait for each other take long."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
