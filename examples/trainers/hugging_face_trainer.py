"""Hugging Face Trainer: `compute_loss_func`, a subclass for the sampler, and `compute_metrics`."""

from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from toy import CLASS_COUNTS, TEST, TRAIN
from transformers import EvalPrediction, Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

import longtail as lt

# Without ranks: accelerate distributes the batches of the sampler over the processes, and calls `set_epoch`.
SAMPLER = lt.samplers.SquareRootSampler(TRAIN[1])
DRAWN = torch.bincount(TRAIN[1][SAMPLER.order(seed=0, epoch=0)])  # images of each class in an epoch
LOSS = lt.losses.BalancedSoftmax(DRAWN, reduction="sum")


class SampledTrainer(Trainer):
    """Trainer that draws the training images with `SAMPLER`."""

    def _get_train_sampler(self, train_dataset: Any = None) -> lt.samplers.Sampler:
        return SAMPLER


def compute_loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
    """Return the mean loss. With gradient accumulation, `num_items_in_batch` counts the images of all steps."""
    total = LOSS.to(labels.device)(outputs.logits, labels)
    return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Return the scores of the test set."""
    scores = lt.evaluate(prediction.predictions, prediction.label_ids, CLASS_COUNTS)
    return {"balanced": scores.balanced, "few": scores.few}


def rows(images: Tensor, targets: Tensor) -> list[dict[str, Tensor]]:
    """Return a data set with the column names of the model."""
    return [{"pixel_values": image, "labels": label} for image, label in zip(images, targets, strict=True)]


def main() -> None:
    """Train on a long-tailed set and print the scores of a balanced one."""
    torch.manual_seed(0)
    size = {"image_size": 16, "patch_size": 4, "hidden_size": 32, "intermediate_size": 64}
    config = ViTConfig(**size, num_hidden_layers=1, num_attention_heads=2, num_labels=3)
    with TemporaryDirectory() as folder:
        trainer = SampledTrainer(
            model=ViTForImageClassification(config),
            args=TrainingArguments(
                output_dir=folder,
                num_train_epochs=5,
                per_device_train_batch_size=50,
                learning_rate=1e-2,
                use_cpu=True,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
            ),
            train_dataset=rows(*TRAIN),
            eval_dataset=rows(*TEST),
            compute_loss_func=compute_loss,
            compute_metrics=compute_metrics,
        )
        trainer.train()
        scores = trainer.evaluate()
    print(f"balanced {scores['eval_balanced']:.1f}, few {scores['eval_few']:.1f}")


if __name__ == "__main__":
    main()
