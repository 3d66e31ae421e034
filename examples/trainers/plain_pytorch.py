"""Plain PyTorch: loss, sampler and scores in your own loop, in one process or several (`torchrun`)."""

import os

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from toy import CLASS_COUNTS, TEST, TRAIN

import longtail as lt
from longtail.training.distributed import rank_and_size


def main() -> None:
    """Train on a long-tailed set and print the scores of a balanced one."""
    if "WORLD_SIZE" in os.environ:  # started by torchrun
        distributed.init_process_group("gloo")
    rank, num_ranks = rank_and_size()  # (0, 1) in a single process
    images, targets = TRAIN
    sampler = lt.samplers.SquareRootSampler(targets, rank=rank, num_ranks=num_ranks)
    loader = DataLoader(TensorDataset(images, targets), batch_size=50, sampler=sampler)
    drawn = torch.bincount(targets[sampler.order(seed=0, epoch=0)])  # images of each class in an epoch
    loss = lt.losses.BalancedSoftmax(drawn)

    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
    if num_ranks > 1:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(5):
        sampler.set_epoch(epoch, progress=epoch / 5)
        for batch, labels in loader:
            optimizer.zero_grad()
            loss(model(batch), labels).backward()
            optimizer.step()

    test_images, test_targets = TEST
    with torch.inference_mode():
        scores = lt.evaluate(model(test_images), test_targets, CLASS_COUNTS)
    if rank == 0:
        print(f"balanced {scores.balanced:.1f}, few {scores.few:.1f}")
    if num_ranks > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
