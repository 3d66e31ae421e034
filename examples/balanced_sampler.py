"""A sampler from longtail in an ordinary DataLoader: here with a square-root law, resumed in mid-epoch."""

import torch
from torch.utils.data import DataLoader, TensorDataset

from longtail.samplers import SquareRootSampler


def main() -> None:
    """Print how often each class is drawn, and go on in the middle of an epoch."""
    targets = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    sampler = SquareRootSampler(targets, seed=0)
    loader = DataLoader(TensorDataset(torch.arange(1000), targets), batch_size=100, sampler=sampler)
    drawn = torch.cat([labels for _, labels in loader])
    print(
        "images of each class:", torch.bincount(targets).tolist(), "drawn:", torch.bincount(drawn, minlength=3).tolist()
    )

    whole = list(sampler)
    iterator = iter(sampler)
    first = [next(iterator) for _ in range(300)]
    resumed = SquareRootSampler(targets, seed=0)
    resumed.load_state_dict(sampler.state_dict())
    print("resumed after 300 images, the same order:", first + list(resumed) == whole)


if __name__ == "__main__":
    main()
