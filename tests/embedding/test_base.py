import pytest
import torch
from torch import Tensor

from longtail import embedding
from longtail.component import keyword_options
from longtail.embedding.base import NO_CLASS, EmbeddingLoss
from longtail.errors import InputError


class Norms(EmbeddingLoss):
    """Squared lengths; records what it was given."""

    def per_example(self, embeddings_BD: Tensor, targets_B: Tensor, *extra: Tensor) -> Tensor:
        self.given = (embeddings_BD, targets_B)
        return embeddings_BD.square().sum(dim=1)

    def remember(self, embeddings_BD: Tensor, targets_B: Tensor) -> None:
        self.remembered = embeddings_BD


def test_weighted_mean_over_all_rows() -> None:
    loss = Norms([3, 3], weight=0.5)
    value = loss(torch.tensor([[1.0], [2.0], [9.0], [3.0]]), torch.tensor([0, 1, -100, 0]))
    assert float(value) == 0.5 * (1 + 4 + 9) / 4
    assert loss.given[1].tolist() == [0, 1, NO_CLASS, 0]


def test_weight_is_one_hundredth_if_not_given() -> None:
    assert float(Norms([3, 3])(torch.tensor([[10.0]]), torch.tensor([0]))) == pytest.approx(1.0)


def test_computes_in_float32_under_autocast_and_remembers_detached() -> None:
    loss = Norms([3, 3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss(torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True), torch.tensor([0, 1]))
    assert loss.given[0].dtype == torch.float32
    assert not loss.remembered.requires_grad
    loss.eval()(torch.full((2, 3), 5.0), torch.tensor([0, 1]))
    assert loss.remembered.max() == 1.0


def test_a_missing_dimension_is_refused() -> None:
    with pytest.raises(InputError, match="`embedding_dim` is required: Norms stores a queue"):
        Norms([3, 3]).needed_dim("a queue")
    assert Norms([3, 3], 7).needed_dim("a queue") == 7


def test_counts_are_checked() -> None:
    with pytest.raises(InputError, match="at least two classes"):
        Norms([3])


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="wieght"):
        Norms([3, 3], wieght=1.0)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", embedding.__all__)
def test_repr_shows_every_option(name: str) -> None:
    cls = getattr(embedding, name)
    shown = repr(cls([9, 1], 4))
    assert shown.startswith(f"{name}(")
    assert all(f"{option}=" in shown for option in keyword_options(cls) if option != "ignore_index")
