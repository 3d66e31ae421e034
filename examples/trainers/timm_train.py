"""Run the script `train.py` of timm with a loss and a sampler of longtail.

    python timm_train.py pytorch-image-models/train.py --data-dir photos --num-classes 3 --model resnet18

The script imports `create_loader`, `LabelSmoothingCrossEntropy` and `create_model` from packages of timm. They are
replaced before it runs, so the script stays as it is and keeps all its options. The loss is used without mixup, CutMix,
`--jsd-loss`, `--bce-loss` and `--smoothing 0`, which select another one.
"""

import runpy
import sys
from typing import Any

import timm.data
import timm.loss
import timm.models
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import longtail as lt
from longtail.training.distributed import rank_and_size

KEPT = ("batch_size", "num_workers", "collate_fn", "pin_memory", "drop_last", "worker_init_fn", "persistent_workers")
create_loader, create_model = timm.data.create_loader, timm.models.create_model
used: dict[str, Any] = {}


def sampled_loader(dataset: Any, *args: Any, **options: Any) -> Any:
    """Return the loader of timm. The training loader draws with our sampler."""
    loader = create_loader(dataset, *args, **options)
    if not options.get("is_training"):
        return used.setdefault("test_loader", loader)
    targets = torch.tensor([label for _, label in dataset.reader.samples])  # folders and archives of images
    rank, num_ranks = rank_and_size()  # timm calls `set_epoch` in distributed training
    sampler = lt.samplers.SquareRootSampler(targets, rank=rank, num_ranks=num_ranks)
    used["counts"] = torch.bincount(targets)
    used["drawn"] = torch.bincount(targets[sampler.order(seed=0, epoch=0)])  # images of each class in an epoch
    batches = getattr(loader, "loader", loader)  # inside the prefetcher
    batches = DataLoader(batches.dataset, sampler=sampler, **{name: getattr(batches, name) for name in KEPT})
    if not hasattr(loader, "loader"):
        return batches
    loader.loader = batches
    return loader


def balanced_loss(smoothing: float = 0.1) -> torch.nn.Module:
    """Return our loss in place of cross-entropy with label smoothing."""
    return lt.losses.BalancedSoftmax(used["drawn"])


def kept_model(*args: Any, **options: Any) -> Any:
    """Return the model of timm and keep the first one, for the scores."""
    model = create_model(*args, **options)
    used.setdefault("model", model)
    return model


@torch.inference_mode()
def test_logits(model: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """Return the logits and labels of the validation split."""
    device = next(model.parameters()).device
    parts = [(model(images.to(device)).cpu(), targets.cpu()) for images, targets in used["test_loader"]]
    logits, targets = zip(*parts, strict=True)
    return torch.cat(logits), torch.cat(targets)


if __name__ == "__main__":
    timm.data.create_loader, timm.models.create_model = sampled_loader, kept_model
    timm.loss.LabelSmoothingCrossEntropy = balanced_loss
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
    if rank_and_size()[1] == 1:
        scores = lt.evaluate(*test_logits(used["model"].eval()), used["counts"])
        print(f"balanced {scores.balanced:.1f}, few {scores.few:.1f}")
