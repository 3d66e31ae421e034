"""State of a stage in training: weights, optimizer, averages, running sums and position."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from longtail.config.schema import TrainingConfig
from longtail.errors import InputError
from longtail.training.checkpoint import applying
from longtail.training.context import Context
from longtail.training.optimizer import SGD
from longtail.training.step import Step

NEVER = 2**31 - 1  # index of the first step with a loss that is not finite, as long as there is none
AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class TrainState:
    """Everything that changes during a stage. `update` is the step of gradient descent.

    Args:
        step: Model and loss.
        settings: Training settings.
        context: Run state; if it holds a checkpoint of this stage, the state continues from it.
    """

    def __init__(self, step: Step, settings: TrainingConfig, context: Context) -> None:
        self.task, self.settings, self.context = step, settings, context
        options = settings.optimizer
        self.optimizer = SGD(
            [parameter for parameter in step.parameters() if parameter.requires_grad],
            lr=options.lr,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            nesterov=options.nesterov,
            fused=True,
        )
        self.scaler = torch.amp.GradScaler(context.device.type, enabled=settings.precision == "fp16")
        average = None if settings.ema is None else get_ema_multi_avg_fn(settings.ema)  # type: ignore[no-untyped-call]
        self.ema = average and AveragedModel(step.model, multi_avg_fn=average, use_buffers=True)
        self.epoch, self.step = 0, 0
        self.loss_sum = torch.zeros((), device=context.device)
        self.first_bad = torch.full((), NEVER, device=context.device)
        self.best: dict[str, Any] | None = None
        if context.saved is not None:
            with applying(context.saved):
                self.load_state_dict(context.saved)

    def update(self, lr: float, *batch: Any) -> None:
        """Take one step of gradient descent. No value is read back from the device.

        Args:
            lr: Learning rate.
            batch: Images and labels.
        """
        images_BCHW, targets_B = batch
        dtype = AUTOCAST[self.settings.precision]
        self.set_lr(lr)
        with torch.autocast(self.context.device.type, dtype, enabled=dtype is not None):
            loss = self.task(images_BCHW, targets_B)
        self.scaler.scale(loss).backward()
        if self.settings.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.task.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update_parameters(self.task.model)
        self.count(loss.detach())

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of all parameter groups."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def count(self, loss: Tensor) -> None:
        """Add the loss of a step to the running sum, and advance the position."""
        self.loss_sum += loss
        self.first_bad = torch.where(loss.isfinite(), self.first_bad, self.first_bad.clamp(max=self.step))
        self.step += 1

    def sync_and_check(self) -> float:
        """Synchronize with the device and return the mean loss of the epoch. The loop's only host sync.

        Raises:
            InputError: If a loss is not finite, with the step and the last good checkpoint.
        """
        first_bad, mean = int(self.first_bad), float(self.loss_sum) / self.step
        if first_bad != NEVER:
            last = self.context.store.last
            raise InputError(
                f"the loss is not finite at epoch {self.epoch + 1}, step {first_bad + 1}; "
                f"{f'the last good checkpoint is {last}' if last.exists() else 'no checkpoint is saved yet'}; "
                "try a lower learning rate, `clip_norm`, or bf16 instead of fp16"
            )
        return mean

    @property
    def scored_model(self) -> nn.Module:
        """Model that is evaluated: with the averaged weights if an average is kept."""
        return self.task.model if self.ema is None else self.ema.module

    def extra_metrics(self) -> dict[str, Any]:
        """Return metrics for the log row of an epoch in addition to loss and speed."""
        return {}

    def keep_if_best(self, metrics: dict[str, float]) -> None:
        """Keep a copy of the evaluated weights if their top-1 accuracy is the best so far."""
        if self.best is None or metrics["top1"] > self.best["top1"]:
            weights = {name: tensor.detach().clone() for name, tensor in self.scored_model.state_dict().items()}
            self.best = {"top1": metrics["top1"], "epoch": self.epoch, "model": weights}

    def next_epoch(self) -> None:
        """Advance the position to the start of the next epoch."""
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum.zero_()

    def finalize(self) -> None:
        """Load the weights to return (best epoch, average or last) into the model."""
        weights = self.best["model"] if self.best is not None else self.scored_model.state_dict()
        self.task.model.load_state_dict(weights)
        self.task.model.eval()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to resume: tensors and plain values."""
        return {
            **self.context.place(),
            "epoch": self.epoch,
            "step": self.step,
            "model": self.task.model.state_dict(),
            "head": self.task.model.head_component.to_mapping(),
            **{name: module.state_dict() for name, module in self.task.auxiliary_modules().items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "loss_sum": self.loss_sum,
            "best": self.best,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from a checkpoint of this stage."""
        self.epoch, self.step = saved["epoch"], saved["step"]
        if saved["best"] is not None:  # checked now, because it is needed only after the last epoch
            self.task.model.load_state_dict(saved["best"]["model"])
            float(saved["best"]["top1"])
        self.task.model.load_state_dict(saved["model"])
        for name, module in self.task.auxiliary_modules().items():
            module.load_state_dict(saved[name])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(saved["ema"])
        self.loss_sum = saved["loss_sum"].to(self.context.device)
        self.best = saved["best"]
