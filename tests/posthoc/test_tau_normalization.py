"""tau-normalization against a slow reference, and at tau = 0 and 1."""

import math

import pytest
import torch

from longtail.errors import InputError
from longtail.models.heads import LinearHead
from longtail.posthoc import TauNormalization
from longtail.posthoc.tau_normalization import tau_normalized
from tests.posthoc.conftest import COUNTS


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_each_vector_is_divided_by_its_length_to_the_power_tau(tau):
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    expected = []
    for row in weight.double().tolist():
        norm = math.sqrt(sum(value**2 for value in row))
        expected.append([value / norm**tau for value in row])
    torch.testing.assert_close(tau_normalized(weight, tau), torch.tensor(expected).float())


def test_the_bias_is_dropped(world):
    fitted = TauNormalization(tau=0.0).fit(world.features, world.targets, world.head, COUNTS)
    assert type(fitted.head) is LinearHead
    torch.testing.assert_close(fitted.predict_logits(world.features), world.features @ world.head.weight.T)


def test_tau_one_makes_all_vectors_equally_long(world):
    fitted = TauNormalization(tau=1.0).fit(world.features, world.targets, world.head, COUNTS)
    torch.testing.assert_close(fitted.head.weight.norm(dim=1), torch.ones(3))


def test_a_vector_of_zeros_stays_one():
    assert torch.equal(tau_normalized(torch.zeros(1, 2), 1.0), torch.zeros(1, 2))


def test_the_chosen_tau_undoes_what_the_lengths_have_done(world):
    """Class vectors of equal length are stretched for frequent classes; tau = 1 reverses this."""
    directions = torch.nn.functional.normalize(torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]), dim=1)
    targets = torch.arange(3).repeat(40)
    features = directions[targets] + 0.35 * torch.randn(120, 3, generator=torch.Generator().manual_seed(1))
    head = torch.nn.Linear(3, 3)
    with torch.no_grad():
        head.weight.copy_(directions * torch.tensor([[8.0], [2.0], [0.5]]))
        head.bias.zero_()
    fitted = TauNormalization().fit(features, targets, head, COUNTS)
    assert 0.8 <= fitted.chosen["tau"] <= 1.2
    right = fitted.predict_logits(features).argmax(dim=1) == targets
    assert right.float().mean() > (head(features).argmax(dim=1) == targets).float().mean() + 0.2


def test_what_can_not_be_normalized_is_refused(world):
    with pytest.raises(InputError, match="`tau` must be >= 0"):
        TauNormalization(tau=-0.5)
    with pytest.raises(InputError, match="cannot choose `tau` without held-out examples"):
        TauNormalization().fit(world.features[:0], world.targets[:0], world.head, COUNTS)
    with pytest.raises(InputError, match="`class_counts` must have 3 counts"):
        TauNormalization(tau=1.0).fit(world.features, world.targets, world.head, [1, 2])
