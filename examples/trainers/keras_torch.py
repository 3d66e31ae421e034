"""Keras 3 on PyTorch: a `keras.losses.Loss` that calls a loss of longtail, and a DataLoader with a sampler."""

import os

os.environ["KERAS_BACKEND"] = "torch"  # before the import of keras

import keras
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from toy import CLASS_COUNTS, TEST, TRAIN

import longtail as lt
from longtail.training.distributed import rank_and_size


class KerasLoss(keras.losses.Loss):
    """Loss of longtail for `compile`.

    Args:
        loss: Loss with `reduction="none"`. Keras takes the mean.
    """

    def __init__(self, loss: lt.losses.Loss) -> None:
        super().__init__(name=type(loss).__name__)
        self.loss = loss

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the loss of each example. Keras passes the labels as floats."""
        if y_pred.is_meta:  # Keras infers the shapes
            return y_pred.new_empty(len(y_pred))
        return self.loss.to(y_pred.device)(y_pred, y_true.long().flatten())


def main() -> None:
    """Train on a long-tailed set and print the scores of a balanced one."""
    keras.utils.set_random_seed(0)
    images, targets = TRAIN
    rank, num_ranks = rank_and_size()  # (0, 1) in a single process
    sampler = lt.samplers.SquareRootSampler(targets, rank=rank, num_ranks=num_ranks)  # counts the epochs itself
    loader = DataLoader(TensorDataset(images, targets), batch_size=50, sampler=sampler)
    drawn = torch.bincount(targets[sampler.order(seed=0, epoch=0)])  # images of each class in an epoch

    model = keras.Sequential([keras.Input((3, 16, 16)), keras.layers.Flatten(), keras.layers.Dense(3)])
    loss = KerasLoss(lt.losses.BalancedSoftmax(drawn, reduction="none"))
    model.compile(optimizer=keras.optimizers.AdamW(1e-3), loss=loss)
    model.fit(loader, epochs=5, verbose=0)

    test_images, test_targets = TEST
    scores = lt.evaluate(model.predict(test_images.numpy(), verbose=0), test_targets, CLASS_COUNTS)
    print(f"balanced {scores.balanced:.1f}, few {scores.few:.1f}")


if __name__ == "__main__":
    main()
