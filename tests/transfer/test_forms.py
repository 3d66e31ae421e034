import torch

from longtail.transfer.forms import DenseForm, dense_bytes, standardized
from longtail.transfer.maps import TransferMap


def form() -> DenseForm:
    return DenseForm(3, 2, TransferMap(), eps=1e-5, clamp=5.0)


def test_moments_by_class_and_by_image_are_the_same() -> None:
    targets = torch.tensor([2, 0, 2, 1, 0])
    moments = form().update(torch.randn(5, 4, 2, generator=torch.Generator().manual_seed(0)), targets, detach=True)
    images = moments.per_image(targets)
    place = moments.groups.group_E
    assert torch.equal(images.groups.classes_G, targets)
    assert images.groups.group_E.tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(images.covariances_GDD, moments.covariances_GDD[place])
    assert torch.equal(images.variances_GC, images.covariances_GDD.diagonal(dim1=1, dim2=2))
    assert torch.equal(images.means_GC[0], images.means_GC[2])


def test_features_are_standardized_and_limited() -> None:
    rows, mean, std = torch.tensor([[[3.0, 100.0]]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 1.0]])
    assert standardized(rows, mean, std, 5.0).tolist() == [[[1.0, 5.0]]]


def test_nothing_is_learnt_before_the_transfer_begins_and_reset_forgets() -> None:
    dense, targets = form(), torch.tensor([0, 1, 2])
    dense.observe(torch.ones(3, 4, 2), targets)
    assert not dense.seen.any()
    dense.update(torch.ones(3, 4, 2), targets, detach=True)
    assert dense.seen.tolist() == [1, 1, 1]
    dense.reset()
    assert not any(buffer.any() for buffer in dense.buffers())


def test_memory_grows_with_the_statistics() -> None:
    for classes, channels in ((100, 64), (8142, 2048)):
        statistics = form().running.covariances_KCC.element_size() * classes * channels**2
        assert statistics < dense_bytes(classes, channels) < 30 * statistics
