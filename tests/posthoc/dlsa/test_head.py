"""The head of DLSA against a loop over the examples, in checkpoints, and its error messages."""

import copy
import math

import pytest
import torch
from torch import Tensor

from longtail.component import Component
from longtail.config.convert import to_mapping
from longtail.config.schema import ModelConfig
from longtail.errors import InputError
from longtail.models import DLSAHead, LinearHead
from longtail.models.cifar import small_net
from longtail.models.classifier import Classifier, restore_classifier
from longtail.posthoc.dlsa import head as dlsa_head
from longtail.posthoc.dlsa.head import SquashedCosineHead

DIM, CLASSES, LEVELS, CLUSTERS = 4, 3, 2, 5
OPTIONS = {"levels": LEVELS, "clusters": CLUSTERS}


def embeddings(num: int = 40) -> Tensor:
    return 2 * torch.randn(num, DIM, generator=torch.Generator().manual_seed(1))


def taught(classifier: str = "linear", seed: int = 0) -> DLSAHead:
    """Return a head in which every level takes some of the embeddings."""
    torch.manual_seed(seed)
    head = DLSAHead(DIM, CLASSES, **OPTIONS, classifier=classifier, seed=seed)
    head.priors_MKC.copy_(torch.rand(LEVELS, CLUSTERS, CLASSES))
    for level, share in enumerate((0.4, 0.6)):
        density_B, _ = head.assign(level, embeddings())
        head.thresholds_M[level] = density_B.sort().values[-round(share * len(density_B))] - 1e-4
    return head.eval()


def slow_route(head: DLSAHead, x: Tensor) -> list[int]:
    levels = []
    for row in x:
        density = [float(flow_filter.log_density(row[None]).detach()[0]) for flow_filter in head.filters]
        levels.append(next((m for m in range(LEVELS) if density[m] >= float(head.thresholds_M[m])), LEVELS))
    return levels


@pytest.mark.parametrize("classifier", ["linear", "cosine"])
def test_hard_routing_is_that_of_a_loop_over_the_examples(classifier):
    head, x = taught(classifier), embeddings()
    levels = slow_route(head, x)
    assert set(levels) == {0, 1, 2}
    expected = []
    for row, level in zip(x, levels, strict=True):
        if level == LEVELS:
            expected.append(head.rest(row[None])[0])
        else:
            cluster = int(head.filters[level].cluster(row[None])[0])
            expected.append(head.aided[level](torch.cat([row, head.priors_MKC[level, cluster]])[None])[0])
    torch.testing.assert_close(head(x), torch.stack(expected))
    route = head.route(x)
    assert route.level_B.tolist() == levels
    assert torch.equal(route.cluster_MB[1], head.filters[1].cluster(x))


def test_the_methods_for_analyses_agree_with_the_logits():
    head, x = taught(), embeddings()
    route, logits = head.route(x), head(x)
    for level in range(LEVELS):
        taken = route.level_B == level
        own = head.aided_logits(level, x, route.cluster_MB[level])
        torch.testing.assert_close(logits[taken], own[taken])
    torch.testing.assert_close(logits[route.level_B == LEVELS], head.rest(x)[route.level_B == LEVELS])


def test_without_levels_it_is_the_regular_classifier():
    head = DLSAHead(DIM, CLASSES, levels=0)
    assert torch.equal(head(embeddings()), head.rest(embeddings()))
    assert head.route(embeddings()).level_B.tolist() == [0] * 40
    assert head.route(embeddings()).cluster_MB.shape == (0, 40)


def test_training_mode_does_not_reach_the_filters():
    head, x = taught(), embeddings()
    before, state = head(x), copy.deepcopy(head.filters.state_dict())
    head.train()
    assert head.rest.training
    assert torch.equal(head(x), before)
    assert all(map(torch.equal, head.filters.state_dict().values(), state.values()))


def test_the_classifiers_learn_and_the_filters_do_not():
    head = taught().train()
    head(embeddings()).sum().backward()
    assert all(parameter.grad is None for parameter in head.filters.parameters())
    assert all(parameter.grad is not None for parameter in (*head.aided.parameters(), *head.rest.parameters()))


def test_many_embeddings_are_taken_in_blocks(monkeypatch):
    head, x = taught(), embeddings()
    whole, route = head(x), head.route(x)
    monkeypatch.setattr(dlsa_head, "BLOCK", 7)
    torch.testing.assert_close(head(x), whole)
    assert torch.equal(head.route(x).level_B, route.level_B)


@pytest.mark.parametrize("num", [0, 1])
def test_any_number_of_embeddings_of_any_float_type(num):
    head, x = taught(), embeddings(num)
    assert head(x.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(head(x.bfloat16()), head(x.bfloat16().float()))
    assert head(x).shape == (num, CLASSES)


def test_it_goes_to_another_precision_as_a_whole():
    """A tensor that is neither parameter nor buffer would keep its old type."""
    head, x = taught(), embeddings()
    with torch.no_grad():
        before, after = head(x), head.double()(x)
    assert after.dtype == torch.float64
    torch.testing.assert_close(after.float(), before, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_on_an_accelerator_it_says_the_same():
    head, x = taught(), embeddings()
    with torch.no_grad():
        expected, logits = head(x), head.cuda()(x.cuda())
    torch.testing.assert_close(logits.cpu(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classifier", ["linear", "cosine"])
def test_a_checkpoint_brings_filters_thresholds_priors_and_classifiers(classifier):
    head = taught(classifier)
    model = Classifier(small_net(width=DIM // 2), LinearHead(DIM, CLASSES)).eval()
    model.replace_head(Component("DLSAHead", {**OPTIONS, "classifier": classifier}), head)
    saved = {"model": model.state_dict(), "head": to_mapping(model.head_component)}
    config = ModelConfig(backbone=Component("small_net", {"width": DIM // 2}))
    restored = restore_classifier(config, CLASSES, saved)
    assert isinstance(restored.head, DLSAHead)
    with torch.no_grad():
        assert torch.equal(restored.head(embeddings()), head(embeddings()))


def test_filters_of_two_levels_and_of_two_seeds_differ():
    first, other = DLSAHead(DIM, CLASSES, **OPTIONS), DLSAHead(DIM, CLASSES, **OPTIONS, seed=1)
    centers = [each.mixture.centers_KD for each in (*first.filters, *other.filters)]
    assert len({tuple(center.flatten().tolist()) for center in centers}) == 4


def test_the_cosine_classifier_squashes_short_inputs():
    head, x = SquashedCosineHead(DIM, CLASSES, scale=16.0), embeddings(5)
    expected = []
    for row in x.double().tolist():
        norm = math.sqrt(sum(value**2 for value in row))
        unit = [value / norm * norm / (1 + norm) for value in row]
        weights = head.weight.detach().double().tolist()
        lengths = [math.sqrt(sum(w**2 for w in weight)) for weight in weights]
        expected.append(
            [
                16 * sum(u * w for u, w in zip(unit, weight, strict=True)) / length
                for weight, length in zip(weights, lengths, strict=True)
            ]
        )
    torch.testing.assert_close(head(x), torch.tensor(expected))


def test_what_it_can_not_be_made_of_is_refused():
    with pytest.raises(InputError, match="no classifier of a DLSAHead 'cosin'; did you mean cosine"):
        DLSAHead(DIM, CLASSES, classifier="cosin")
    with pytest.raises(InputError, match=r"`levels` must be >= 0 .* got -1"):
        DLSAHead(DIM, CLASSES, levels=-1)
