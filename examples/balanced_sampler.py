"""Use a sampler in a DataLoader: square-root sampling, resumed in the middle of an epoch."""

import torch
from torch.utils.data import DataLoader, TensorDataset

import longtail as lt


def main() -> None:
    """Print how often each class is drawn, and resume an interrupted epoch."""
    targets = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    sampler = lt.samplers.SquareRootSampler(targets, seed=0)
    loader = DataLoader(TensorDataset(torch.arange(1000), targets), batch_size=100, sampler=sampler)
    drawn = torch.cat([labels for _, labels in loader])
    print("images of each class:", torch.bincount(targets).tolist())
    print("drawn in an epoch:   ", torch.bincount(drawn, minlength=3).tolist())

    sampler.set_epoch(1)
    complete = list(sampler)
    sampler.set_epoch(1)
    iterator = iter(sampler)
    first = [next(iterator) for _ in range(300)]
    resumed = lt.samplers.SquareRootSampler(targets, seed=0)
    resumed.load_state_dict(sampler.state_dict())
    print("resumed after 300 images, same order:", first + list(resumed) == complete)


if __name__ == "__main__":
    main()
