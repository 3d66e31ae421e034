from collections.abc import Iterator

import pytest
from torch import distributed

from tests.distributed.pool import Pool


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Two ranks, shared by all tests of the session."""
    if not (distributed.is_available() and distributed.is_gloo_available()):
        pytest.skip("this build of torch has no gloo")
    ranks = Pool(tmp_path_factory.mktemp("ranks"))
    yield ranks
    ranks.close()
