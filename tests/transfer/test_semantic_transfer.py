import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.transfer import SemanticTransfer
from tests.transfer import reference

COUNTS = [500, 200, 30, 8, 2]  # two heads, three tails
CHANNELS, SIDE = 6, 3


def batch(seed: int = 0, size: int = 20, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Maps of correlated channels, labels in which every class occurs, and the mask of the second stream."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(len(COUNTS), CHANNELS, CHANNELS, generator=torch.Generator().manual_seed(99)).double()
    targets_B = torch.arange(size) % len(COUNTS)
    rows = torch.randn(size, SIDE * SIDE, CHANNELS, generator=generator).double() @ mixing[targets_B]
    maps = (rows + targets_B[:, None, None]).transpose(1, 2).reshape(size, CHANNELS, SIDE, SIDE).to(dtype)
    return maps, targets_B, torch.arange(size) % 2 == 1


def built(**options: Any) -> SemanticTransfer:
    """Without a limit on the features, and with heads that lend after two images."""
    return SemanticTransfer(COUNTS, CHANNELS, **{"min_seen": 2, "clamp": None, **options})


def run(transfer: SemanticTransfer, seed: int = 0, **given: Any) -> tuple[Tensor, Tensor | None]:
    torch.manual_seed(7)
    maps, weights = transfer(*batch(seed, **given))
    return maps, weights


def rows_of(maps: Tensor, chosen_B: Tensor) -> Tensor:
    return maps[chosen_B].flatten(2).transpose(1, 2)


CHANGED_B = (torch.arange(20) % 2 == 1) & (torch.arange(20) % 5 >= 2)


def naive(
    heads: dict[int, int], scale: str, clamp: float = np.inf, seeds: tuple[int, ...] = (0,)
) -> tuple[Tensor, Tensor]:
    """The whole augmentation in float64, given the head of each tail class; maps, and sums of A over C."""
    data = [batch(seed, dtype=torch.float64) for seed in seeds]
    maps, targets_B, second_B = data[-1]
    out, omega = maps.clone(), torch.ones(len(maps)).double()
    statistics = {}
    for label in range(len(COUNTS)):
        own = [m.flatten(2).transpose(1, 2)[t == label].numpy() for m, t, _ in data]
        statistics[label] = reference.class_statistics([image for images in own for image in images])
    for b in range(len(maps)):
        label = int(targets_B[b])
        if second_B[b] and label in heads:
            mean, tail = statistics[label]
            a = reference.matrix(tail, statistics[heads[label]][1], scale)
            rows = maps[b].flatten(1).T.numpy()
            out[b] = torch.tensor(reference.changed(rows, mean, tail, a, clamp)).T.reshape(out[b].shape)
            omega[b] = max(a.sum(), 0) / CHANNELS
    return out, omega


@pytest.mark.parametrize("scale", ["trace", "literal", "spectral", "correlation", "optimal-transport"])
def test_equals_the_paper_written_out(scale: str) -> None:
    """After two batches, with a single head class."""
    transfer = built(scale=scale, heads=1, clamp=1.5, omega="literal").double()
    run(transfer, 0, dtype=torch.float64)
    maps, weights = run(transfer, 1, dtype=torch.float64)
    expected, omega = naive(dict.fromkeys((1, 2, 3, 4), 0), scale, clamp=1.5, seeds=(0, 1))
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(weights, omega)
    single, _ = run(copy.deepcopy(built(scale=scale, heads=1, clamp=1.5)))  # and in float32
    torch.testing.assert_close(
        single.double(), naive(dict.fromkeys((1, 2, 3, 4), 0), scale, 1.5)[0], rtol=1e-3, atol=1e-3
    )


def test_only_tail_images_of_the_second_stream_are_changed() -> None:
    maps, _ = run(built())
    assert torch.equal((maps != batch()[0]).flatten(1).any(dim=1), CHANGED_B)


def test_a_share_of_the_tail_images_is_left_as_they_are() -> None:
    """The changed images are changed as without the share, which only selects them."""
    maps, targets_B, second_B = batch(size=2000)
    changed, weights = run(built(share=0.25, omega="literal", heads=1), size=2000)
    every, _ = run(built(omega="literal", heads=1), size=2000)
    moved_B = (changed != maps).flatten(1).any(dim=1)
    tail_B = second_B & (targets_B >= 1)
    assert not (moved_B & ~tail_B).any()
    assert abs(float(moved_B[tail_B].float().mean()) - 0.25) < 0.06  # 800 draws: four standard deviations
    torch.testing.assert_close(changed[moved_B], every[moved_B])
    assert (weights[~moved_B] == 1).all()


def test_class_mean_is_kept_and_variance_becomes_the_heads() -> None:
    """Where all images of the tail class are changed; the statistics are those of the batch."""
    given, targets_B, _ = batch()
    transfer = built(heads=1, stream=None)
    maps, _ = transfer(given, targets_B, torch.zeros_like(targets_B, dtype=torch.bool))
    head = float(np.trace(reference.class_statistics(list(rows_of(given, targets_B == 0).numpy()))[1]))
    for label in (1, 2, 3, 4):
        before, after = (rows_of(m, targets_B == label).flatten(0, 1) for m in (given, maps))
        torch.testing.assert_close(after.mean(dim=0), before.mean(dim=0), rtol=1e-5, atol=1e-5)
        assert float(after.var(dim=0, correction=0).sum()) == pytest.approx(head, rel=1e-4)


def test_changing_then_pooling_equals_pooling_then_changing() -> None:
    """The statistics of maps, applied to means of maps."""
    given, targets_B, second_B = batch()
    transfer, pooled = built(), built()
    run(transfer), run(pooled)
    for one in (transfer, pooled):  # no image of these enters the statistics
        one.form.running.momentum = 1e-12
    torch.manual_seed(3)
    after, _ = transfer(given, targets_B, second_B)
    torch.manual_seed(3)
    before, _ = pooled(given.mean(dim=(2, 3)), targets_B, second_B)
    torch.testing.assert_close(after.mean(dim=(2, 3)), before, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, given.mean(dim=(2, 3)))


def test_pooled_statistics_move_an_image_as_a_whole() -> None:
    given = batch()[0]
    maps, _ = run(built(statistics="pooled"))
    shift = (maps - given).flatten(2)
    assert shift[CHANGED_B].abs().max() > 0.1
    torch.testing.assert_close(shift, shift.mean(dim=2, keepdim=True).expand_as(shift), rtol=1e-4, atol=1e-5)
    vectors, _ = run_on(built(), given.mean(dim=(2, 3)))
    torch.testing.assert_close(maps.mean(dim=(2, 3)), vectors, rtol=1e-4, atol=1e-4)


def run_on(transfer: SemanticTransfer, maps: Tensor) -> tuple[Tensor, Tensor | None]:
    torch.manual_seed(7)
    changed, weights = transfer(maps, *batch()[1:])
    return changed, weights


def test_weights_have_mean_one_over_the_changed_images() -> None:
    _, weights = run(built())
    assert weights is not None
    assert torch.equal(weights[~CHANGED_B], torch.ones(14))
    assert float(weights[CHANGED_B].mean()) == pytest.approx(1)
    assert float(weights[CHANGED_B].std()) > 0.01
    assert ((weights >= 0.1) & (weights <= 10)).all()


def test_weights_as_written_and_one_plus() -> None:
    literal, one_plus = (run(built(omega=omega))[1] for omega in ("literal", "one-plus"))
    assert literal is not None
    assert one_plus is not None
    torch.testing.assert_close(one_plus[CHANGED_B], 1 + literal[CHANGED_B])
    assert torch.equal(one_plus[~CHANGED_B], torch.ones(14))


def test_parts_can_be_had_alone() -> None:
    given = batch()[0]
    whole, only_maps = run(built()), run(built(reweight=False))
    assert torch.equal(only_maps[0], whole[0])
    assert only_maps[1] is None
    only_weights, control = run(built(augment=False)), run(built(augment=False, reweight=False))
    assert torch.equal(only_weights[0], given)
    torch.testing.assert_close(only_weights[1], whole[1])
    assert torch.equal(control[0], given)
    assert control[1] is None


def test_the_loss_of_the_second_stream_alone() -> None:
    second_B = batch()[2]
    for transfer in (built(enters="second", reweight=False), built(enters="second", start=0.5, reweight=False)):
        _, weights = run(transfer)
        assert weights is not None
        torch.testing.assert_close(weights, 2.0 * second_B)
    _, both = run(built(enters="second"))
    _, plain = run(built())
    torch.testing.assert_close(both, plain * 2.0 * second_B)


def test_evaluation_changes_nothing() -> None:
    transfer = built()
    run(transfer)
    before = copy.deepcopy(transfer.state_dict())
    maps, weights = run(transfer.eval())
    assert torch.equal(maps, batch()[0])
    assert weights is None
    torch.testing.assert_close(transfer.state_dict(), before, rtol=0, atol=0)


def test_head_images_of_the_second_stream_and_images_of_one_stream() -> None:
    given, targets_B, second_B = batch()
    maps, _ = run(built(transfer_heads=True))
    assert torch.equal((maps != given).flatten(1).any(dim=1), second_B)
    transfer = built(stream=None)
    assert transfer.stream is None
    maps, _ = transfer(given, targets_B, torch.zeros_like(second_B))
    assert torch.equal((maps != given).flatten(1).any(dim=1), targets_B >= 2)


def test_one_head_for_each_class_or_for_each_image() -> None:
    """Two equal images of a class are changed equally, or not."""
    given, targets_B, second_B = batch()
    given[13], given[3] = given[23 % 20], given[23 % 20]  # three of class 3
    same = ((given[13] == given[3]).all(), targets_B[3] == targets_B[13])
    assert all(same)
    for per_image, alike in ((False, True), (True, False)):
        transfer = built(per_image=per_image, min_seen=1)
        seen = set()
        for seed in range(10):
            torch.manual_seed(seed)
            maps, _ = copy.deepcopy(transfer)(given, targets_B, second_B)
            seen.add(torch.allclose(maps[3], maps[13], rtol=1e-4))
        assert (seen == {True}) == alike


def test_no_transfer_before_its_start_nor_from_heads_hardly_seen() -> None:
    given = batch()[0]
    transfer = built(start=0.25)
    transfer.set_progress(0.2)
    maps, weights = run(transfer)
    assert torch.equal(maps, given)
    assert weights is None
    assert not transfer.form.seen.any()
    transfer.set_progress(0.25)
    assert not torch.equal(run(transfer)[0], given)
    shy = built(min_seen=5)  # each batch shows four
    assert torch.equal(run(shy)[0], given)
    assert not torch.equal(run(shy)[0], given)


def test_statistics_begin_afresh_with_the_transfer_or_with_each_epoch() -> None:
    once, every = built(start=0.0), built(start=0.0, reset="epoch")
    for transfer in (once, every):
        run(transfer)
        transfer.set_progress(0.0)
        assert not transfer.form.seen.any()
        run(transfer)
        transfer.set_progress(0.5)
    assert once.form.seen.tolist() == [4] * 5
    assert every.form.seen.tolist() == [0] * 5


def test_goes_on_from_a_saved_state_to_the_bit() -> None:
    for options in ({"start": 0.3}, {"start": 0.3, "reset": "epoch"}):
        transfer = built(**options)
        transfer.set_progress(0.3)
        run(transfer, 1)
        resumed = built(**options)
        resumed.load_state_dict(pickle.loads(pickle.dumps(transfer.state_dict())))
        resumed.set_progress(0.3)  # as the loop does, also in mid-epoch
        for seed in (2, 3):
            actual, expected = run(resumed, seed), run(transfer, seed)
            assert torch.equal(actual[0], expected[0])
            assert torch.equal(actual[1], expected[1])  # type: ignore[arg-type]
        for one in (transfer, resumed):
            one.set_progress(0.6)
        torch.testing.assert_close(resumed.state_dict(), transfer.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    "options", [{}, {"scale": "optimal-transport"}, {"statistics": "pooled"}, {"scale": "spectral"}]
)
def test_classes_with_no_image_or_one_do_no_harm(options: dict[str, Any]) -> None:
    """Class 4 has no image in the batch, class 3 one; of constant channels, too."""
    given, targets_B, second_B = batch()
    targets_B = torch.where(targets_B == 4, 0, targets_B)
    targets_B[torch.arange(20)[targets_B == 3][1:]] = 1
    given[:, 0] = 0.5
    leaf = given.requires_grad_()
    maps, weights = SemanticTransfer(COUNTS, CHANNELS, min_seen=1, **options)(leaf, targets_B, second_B)
    (maps.sum() + weights.sum()).backward()
    assert maps.isfinite().all()
    assert weights.isfinite().all()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


def test_gradient_is_that_of_a_fixed_map_or_of_the_whole() -> None:
    """Gradient of the whole, in a batch of tail classes, since the statistics of the heads are constants."""
    given, targets_B, second_B = batch(size=10, dtype=torch.float64)
    targets_B = 2 + targets_B % 3
    transfer = built().double()
    run(transfer, 1, dtype=torch.float64)

    def after(maps: Tensor, detach: bool) -> Tensor:
        one = copy.deepcopy(transfer)
        one.detach = detach
        torch.manual_seed(0)
        out: Tensor = one(maps, targets_B, second_B)[0]
        return out

    leaf = given.requires_grad_()
    probe = torch.randn(given.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    fixed, whole = (torch.autograd.grad((after(leaf, detach) * probe).sum(), leaf)[0] for detach in (True, False))
    assert not torch.allclose(fixed, whole)
    direction = torch.randn(given.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.no_grad():
        up, down = (after(leaf + sign * 1e-6 * direction, False) for sign in (1, -1))
    torch.testing.assert_close(((up - down) * probe).sum() / 2e-6, (whole * direction).sum(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fixed[~second_B], probe[~second_B])


def test_statistics_stay_in_float32_under_autocast() -> None:
    transfer, plain = built(), built()
    given, targets_B, second_B = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(7)
        maps, weights = transfer(given.bfloat16(), targets_B, second_B)
    torch.manual_seed(7)
    expected, expected_weights = plain(given.bfloat16().float(), targets_B, second_B)
    assert maps.dtype == torch.bfloat16
    torch.testing.assert_close(maps, expected.bfloat16())
    torch.testing.assert_close(weights, expected_weights)
    torch.testing.assert_close(transfer.state_dict(), plain.state_dict())


@pytest.mark.parametrize(
    "options", [{}, {"per_image": True, "scale": "spectral"}, {"pairing": "covariance", "statistics": "pooled"}]
)
def test_compiles_to_one_graph(options: dict[str, Any]) -> None:
    """A step neither synchronizes with the device nor branches on data."""
    torch._dynamo.reset()
    eager, inner = built(**options), built(**options)
    compiled = torch.compile(inner, backend="eager", fullgraph=True)
    for seed in (1, 2):
        expected = run(eager, seed)
        torch.manual_seed(7)
        torch.testing.assert_close(compiled(*batch(seed)), expected)
    torch.testing.assert_close(inner.state_dict(), eager.state_dict())


def test_bad_options_are_refused() -> None:
    for options, message in (
        ({"omega": "meanone"}, "'meanone'; did you mean mean-one"),
        ({"statistics": "mean"}, "kind of statistics 'mean'"),
        ({"reset": "never"}, "time to reset the statistics 'never'"),
        ({"enters": "first"}, "choice of streams that enter the loss 'first'"),
        ({"scale": "trase"}, "did you mean trace"),
        ({"stream": "ClasBalancedSampler"}, "did you mean ClassBalancedSampler"),
        ({"stream": 3}, "`stream` must be a name"),
        ({"start": 1.0}, r"`start` must be >= 0 and < 1"),
        ({"eps": 0}, "`eps` must be > 0"),
        ({"clamp": -1.0}, "`clamp` must be > 0"),
    ):
        with pytest.raises(InputError, match=message):
            built(**options)


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InputError, match=r"`share` must be > 0 and <= 1"):
        built(share=share)


def test_bad_batches_are_refused() -> None:
    maps, targets_B, second_B = batch()
    transfer = built()
    with pytest.raises(InputError, match=r"needs features of shape \(B, 6, H, W\) .* built for 6 channels"):
        transfer(maps[:, :5], targets_B, second_B)
    with pytest.raises(InputError, match=r"needs one label per image.*Train without mixing"):
        transfer(maps, torch.ones(20, 5), second_B)
    with pytest.raises(InputError, match="bool mask of the second stream"):
        transfer(maps, targets_B, second_B.long())
