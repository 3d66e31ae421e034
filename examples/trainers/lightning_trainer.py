"""Lightning: the sampler in `train_dataloader`, the loss in `training_step`, the scores after each validation."""

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from toy import CLASS_COUNTS, TEST, TRAIN

import longtail as lt

Batch = tuple[Tensor, Tensor]


class Classifier(lightning.LightningModule):
    """Linear classifier with Balanced Softmax under square-root sampling."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
        order = lt.samplers.SquareRootSampler(TRAIN[1]).order(seed=0, epoch=0)
        self.loss = lt.losses.BalancedSoftmax(torch.bincount(TRAIN[1][order]))  # images of each class in an epoch
        self.seen: list[Batch] = []

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the training batches of this process."""
        ranks = {"rank": self.trainer.global_rank, "num_ranks": self.trainer.world_size}
        sampler = lt.samplers.SquareRootSampler(TRAIN[1], **ranks)  # Lightning calls `set_epoch`
        return DataLoader(TensorDataset(*TRAIN), batch_size=50, sampler=sampler)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the whole test set, in every process."""
        return DataLoader(TensorDataset(*TEST), batch_size=50)

    def training_step(self, batch: Batch) -> Tensor:
        """Return the loss of a batch."""
        images, targets = batch
        return self.loss(self.model(images), targets)

    def validation_step(self, batch: Batch) -> None:
        """Keep the logits of a batch."""
        images, targets = batch
        self.seen.append((self.model(images), targets))

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the test set."""
        logits, targets = (torch.cat(parts) for parts in zip(*self.seen, strict=True))
        self.seen.clear()
        scores = lt.evaluate(logits, targets, CLASS_COUNTS)
        self.log_dict({"balanced": scores.balanced, "few": scores.few})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main() -> None:
    """Train on a long-tailed set and print the scores of a balanced one."""
    lightning.seed_everything(0)
    trainer = lightning.Trainer(
        max_epochs=5,
        use_distributed_sampler=False,  # else Lightning replaces the sampler in distributed training
        accelerator="cpu",
        num_sanity_val_steps=0,
        log_every_n_steps=5,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier())
    print("balanced {balanced:.1f}, few {few:.1f}".format(**trainer.callback_metrics))


if __name__ == "__main__":
    main()
