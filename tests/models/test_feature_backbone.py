"""The backbone that has nothing to do."""

import pytest
import torch

from longtail.errors import InputError
from longtail.models.base import FeatureBackbone


def test_it_gives_back_what_it_is_given_and_has_nothing_to_learn():
    embeddings_BD = torch.randn(3, 4)
    backbone = FeatureBackbone(embedding_dim=4)
    assert backbone(embeddings_BD) is embeddings_BD
    assert (backbone.embedding_dim, list(backbone.state_dict())) == (4, [])


@pytest.mark.parametrize("shape", [(3, 5), (1, 3, 8, 8), (4,)])
def test_anything_else_is_refused(shape):
    with pytest.raises(InputError, match=r"takes embeddings \(B, 4\)") as refused:
        FeatureBackbone(embedding_dim=4)(torch.zeros(shape))
    assert "for images, take the run whose features they were" in str(refused.value)
