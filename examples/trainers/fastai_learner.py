"""fastai: a data loader that draws with a sampler of longtail, and the loss as `loss_func`."""

from typing import Any

import torch
from fastai.basics import DataLoaders, Learner, TfmdDL
from torch import nn
from torch.utils.data import TensorDataset
from toy import CLASS_COUNTS, TEST, TRAIN

import longtail as lt


class SampledDL(TfmdDL):
    """Loader with a sampler. It also serves `ImageDataLoaders` and `DataBlock`, as their `dl_type`.

    Args:
        dataset: Data set.
        sampler: Sampler without ranks, because fastai distributes its order; None for the order of the data.
        options: Options of `TfmdDL`.
    """

    def __init__(self, dataset: Any = None, sampler: Any = None, **options: Any) -> None:
        self.sampler = sampler
        super().__init__(dataset, **options)

    def get_idxs(self) -> list[int]:
        """Return the order of an epoch. The sampler counts the epochs."""
        return list(super().get_idxs() if self.sampler is None else self.sampler)


def main() -> None:
    """Train on a long-tailed set and print the scores of a balanced one."""
    torch.manual_seed(0)
    targets = TRAIN[1]
    sampler = lt.samplers.SquareRootSampler(targets)
    drawn = torch.bincount(targets[sampler.order(seed=0, epoch=0)])  # images of each class in an epoch
    device = torch.device("cpu")
    train = SampledDL(TensorDataset(*TRAIN), sampler, bs=50, num_workers=0, device=device)
    test = SampledDL(TensorDataset(*TEST), bs=50, num_workers=0, device=device)
    learner = Learner(
        DataLoaders(train, test, device=device),
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3)),
        loss_func=lt.losses.BalancedSoftmax(drawn).to(device),
    )
    learner.fit(5, lr=1e-3)
    logits, test_targets = learner.get_preds(dl=test)
    scores = lt.evaluate(logits, test_targets, CLASS_COUNTS)
    print(f"balanced {scores.balanced:.1f}, few {scores.few:.1f}")


if __name__ == "__main__":
    main()
