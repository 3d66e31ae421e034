"""Logits in batches are the logits of each image."""

import torch

from longtail.data.resident import ResidentImages
from longtail.models.cifar import small_net
from longtail.models.classifier import Classifier
from longtail.models.heads import LinearHead
from longtail.training import predict as module
from longtail.training.predict import embed, plain_order, predict


def test_batches_are_limited_in_images_and_bytes():
    for size, batch in ((28, 500), (32, 500), (105, 500), (224, 111), (3000, 1)):
        order_SB, sizes = plain_order(1200, size)
        assert order_SB.shape[1] == batch
        assert sum(sizes) == 1200
        assert order_SB.flatten()[:1200].tolist() == list(range(1200))
        assert batch * 3 * size**2 <= max(2**24, 3 * size**2)


def test_batches_of_any_size_give_the_same_and_the_mode_is_put_back(monkeypatch):
    torch.manual_seed(0)
    model = Classifier(small_net(width=4), LinearHead(8, 3)).train()
    pixels = torch.randint(0, 256, (13, 3, 8, 8), dtype=torch.uint8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    whole, embeddings = predict(model, ResidentImages(pixels))
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    monkeypatch.setattr(module, "BATCH", 5)
    told = []
    parts, _ = predict(model, ResidentImages(pixels), told.append)
    assert (whole.shape, embeddings.shape, told) == ((13, 3), (13, 8), [5, 5, 3])
    assert torch.equal(embed(model, ResidentImages(pixels)), predict(model, ResidentImages(pixels))[1])
    model.eval()
    alone = torch.cat([model(image.unsqueeze(0)) for image in pixels]).detach()
    assert torch.allclose(whole, alone, atol=1e-5)
    assert torch.allclose(parts, alone, atol=1e-5)
