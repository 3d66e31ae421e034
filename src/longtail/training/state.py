"""State of a stage in training: weights, optimizer, averages, running sums and position."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from longtail.config.schema import TrainingConfig
from longtail.errors import InputError, first_line
from longtail.training.checkpoint import applying
from longtail.training.context import Context
from longtail.training.optimizers import build_optimizer, set_learning_rate
from longtail.training.step import Step

logger = logging.getLogger("longtail")

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class TrainState:
    """Everything that changes during a stage. `update` is the step of gradient descent.

    All tensors stay in place, so that a recorded step can be replayed on them.

    Args:
        step: Model and loss.
        settings: Training settings.
        context: Run state; if it holds a checkpoint of this stage, the state continues from it.
    """

    def __init__(self, step: Step, settings: TrainingConfig, context: Context) -> None:
        self.task, self.settings, self.context = step, settings, context
        options = settings.optimizer
        self.optimizer = build_optimizer(step, options)
        self.scaler = torch.amp.GradScaler(context.device.type, enabled=settings.precision == "fp16")
        if self.scaler.is_enabled() and options.kind == "sgd" and options.momentum > 0:
            # a first step that is skipped because of an overflow would leave momenta with the content of free memory
            for parameter in (each for group in self.optimizer.param_groups for each in group["params"]):
                self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        average = None if settings.ema is None else get_ema_multi_avg_fn(settings.ema)  # type: ignore[no-untyped-call]
        self.ema = average and AveragedModel(step.model, multi_avg_fn=average, use_buffers=True)
        self.is_averaging = False
        self.forward: Callable[..., Tensor] = step
        self.epoch, self.step = 0, 0
        self.loss_sum = torch.zeros((), device=context.device)
        self.is_finite = torch.ones((), dtype=torch.bool, device=context.device)
        self.finite_steps = torch.zeros((), dtype=torch.int32, device=context.device)
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
        self.set_lr(lr)
        self.descend(*batch)
        self.step += 1

    def descend(self, images_BCHW: Tensor, targets_B: Tensor) -> None:
        """Take one step at the present learning rate, without changing anything but tensors.

        Args:
            images_BCHW: Augmented images.
            targets_B: Labels.
        """
        dtype = AUTOCAST[self.settings.precision]
        with torch.autocast(self.context.device.type, dtype, enabled=dtype is not None):
            loss = self.forward(images_BCHW, targets_B)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.settings.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.task.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self._update_average()
        self.count(loss.detach())

    def set_lr(self, lr: float | Tensor) -> None:
        """Set the learning rate of all parameter groups."""
        set_learning_rate(self.optimizer, lr, self.epoch / self.settings.epochs)

    def count(self, loss: Tensor) -> None:
        """Add the loss of a step to the running sum, and count the steps up to the first loss that is not finite."""
        self.loss_sum += loss
        self.is_finite.logical_and_(loss.isfinite())
        self.finite_steps += self.is_finite

    def _update_average(self) -> None:
        """Update the average of the weights; the first one is a copy.

        `AveragedModel.update_parameters` reads a count back from the device in every step, which waits for it.
        """
        if self.ema is None or self.settings.ema is None:
            return
        if not self.is_averaging:
            self.ema.update_parameters(self.task.model)
            self.is_averaging = True
            return
        averages, present = _tensors_of(self.ema.module), _tensors_of(self.task.model)
        pairs = [(a.detach(), p.detach()) for a, p in zip(averages, present, strict=True)]
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([a for a, _ in floats], [p for _, p in floats], 1 - self.settings.ema)
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(average * self.settings.ema + value * (1 - self.settings.ema))

    def sync_and_check(self) -> float:
        """Synchronize with the device and return the mean loss of the epoch. The loop's only host sync.

        Raises:
            InputError: If a loss is not finite, with the step and the last good checkpoint.
        """
        finite_steps, mean = int(self.finite_steps), float(self.loss_sum) / self.step
        if finite_steps < self.step:
            self.context.store.wait()
            last = self.context.store.last
            raise InputError(
                f"the loss is not finite at epoch {self.epoch + 1}, step {finite_steps + 1}; "
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
        self.finite_steps.zero_()

    def finalize(self) -> None:
        """Load the weights to return (best epoch, average or last) into the model, in the usual memory layout."""
        weights = self.best["model"] if self.best is not None else self.scored_model.state_dict()
        self.task.model.load_state_dict(weights)
        self.task.model.to(memory_format=torch.contiguous_format)  # a model that is loaded later has it too
        self.task.model.eval()

    def compile_forward(self) -> None:
        """Compile the forward pass and the loss. If that fails, the eager ones are used after a warning."""
        from torch._dynamo.exc import TorchDynamoException  # takes a second to import

        compiled = torch.compile(self.task, dynamic=False)

        def forward(images_BCHW: Tensor, targets_B: Tensor) -> Tensor:
            try:
                loss: Tensor = compiled(images_BCHW, targets_B)
            except TorchDynamoException as error:
                logger.warning("the step cannot be compiled (%s); it runs eagerly", first_line(error))
                self.forward = self.task
                loss = self.task(images_BCHW, targets_B)
            return loss

        self.forward = forward

    def tensors(self) -> list[Tensor]:
        """Return every tensor that a step changes."""
        modules = [self.task] if self.ema is None else [self.task, self.ema.module]
        momenta = [value for each in self.optimizer.state.values() for value in each.values()]
        scale = []
        if self.scaler.is_enabled():
            self.scaler.scale(self.loss_sum)  # creates the scale
            scale = [self.scaler._scale, self.scaler._growth_tracker]
        every = [*(t for each in modules for t in _tensors_of(each)), *momenta, *scale]
        running = [self.loss_sum, self.is_finite, self.finite_steps]
        return [tensor for tensor in every if isinstance(tensor, Tensor)] + running

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to resume: tensors and plain values."""
        optimizer = self.optimizer.state_dict()
        optimizer["param_groups"] = [{**group, "lr": float(group["lr"])} for group in optimizer["param_groups"]]
        return {
            **self.context.place(),
            "epoch": self.epoch,
            "step": self.step,
            "model": self.task.model.state_dict(),
            **self.task.model.structure(),
            **{name: module.state_dict() for name, module in self.task.auxiliary_modules().items()},
            "optimizer": optimizer,
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
            self.is_averaging = bool(self.ema.n_averaged > 0)
        self.loss_sum.copy_(saved["loss_sum"])
        self.finite_steps.fill_(self.step)
        self.best = saved["best"]


def _tensors_of(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
