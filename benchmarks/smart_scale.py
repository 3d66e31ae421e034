"""SMART at scale: error of the projected form against the dense one, and time and memory of a step.

    python benchmarks/smart_scale.py [--device auto] [--budget 2.0] [--threads 1] [--skip-error] [--skip-steps]

Error: 100 classes of ReLU features whose directions have the weights k^-decay, half of them shared by the classes.
Every tail class uses the covariance of a random head class. Printed: the distance between the changed features of both
forms over their distance from the class mean, for subspaces of several dimensions, and the share of the variance in
these subspaces. For scale, the same ratio is given for unchanged features.

Steps: one training step of the transfer alone, forward and backward, on 256 images (128 of the second stream) with
7 x 7 positions, for the classes and channels of CIFAR-100 and ResNet-32 up to iNaturalist 2018 and ResNet-50. Memory is
the peak above the memory held before (CPU: resident memory on Linux, each case in its own process; CUDA: by the
allocator), including the statistics and excluding the features of the network.
Shapes: K = classes, C = channels, D = dimensions, N = images, P = positions.
"""

import argparse
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import torch
from timing import seconds
from torch import Tensor

from longtail.run.fit import choose_device
from longtail.transfer import SemanticTransfer
from longtail.transfer.forms import DenseForm
from longtail.transfer.maps import TransferMap
from longtail.transfer.projected import ProjectedForm

BATCH, SIDE = 256, 7
KEPT = {"eps": 1e-5, "clamp": 5.0}
CASES = ((100, 64), (100, 512), (1000, 2048), (8142, 2048))


def class_features(channels: int, classes: int, images: int, decay: float) -> Iterator[Tensor]:
    """Yield features (N, P, C) class by class."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    sizes_C = torch.arange(1, channels + 1) ** -decay
    shared_CC = torch.linalg.qr(random(channels, channels)).Q
    for _ in range(classes):
        own_CC = torch.linalg.qr(random(channels, channels)).Q
        strength_C = sizes_C * (0.5 + torch.rand(channels, generator=generator))
        drawn_NPC = random(images, SIDE * SIDE, channels) * strength_C @ shared_CC.T
        drawn_NPC += random(images, SIDE * SIDE, channels) * sizes_C @ own_CC.T
        yield torch.relu(3 * drawn_NPC + 0.3 * random(channels))


def error(channels: int, dimensions: tuple[int, ...], decay: float, classes: int = 100) -> None:
    forms = {channels: DenseForm(classes, channels, TransferMap(), **KEPT)}
    for dimension in dimensions:
        forms[dimension] = ProjectedForm(classes, channels, TransferMap(), dimension=dimension, at_once=16, **KEPT)
    samples = []
    for label, rows_NPC in enumerate(class_features(channels, classes, 16, decay)):
        samples.append(rows_NPC)
        for dimension in dimensions:
            forms[dimension].observe(rows_NPC, torch.full((16,), label))
    rows_NPC = torch.stack([rows_NPC[0] for rows_NPC in samples])
    heads_G = torch.randint(classes, (classes,), generator=torch.Generator().manual_seed(1))
    changed = {}
    with torch.no_grad():
        for dimension, form in forms.items():
            for label, own_NPC in enumerate(samples):
                form.update(own_NPC, torch.full((16,), label), detach=True)
            moments = form.update(rows_NPC, torch.arange(classes), detach=True)
            changed[dimension], _ = form.change(rows_NPC, torch.arange(classes), moments, heads_G)
    dense_NPC = changed[channels]
    reach = (dense_NPC - moments.means_GC[:, None]).norm()
    print(f"C = {channels}, decay {decay}: unchanged {float((rows_NPC - dense_NPC).norm() / reach):.3f}")
    for dimension in dimensions:
        pooled_CC, basis_CD = forms[dimension].pooled.covariances_KCC[0], forms[dimension].basis_CD
        covered = float((basis_CD.T @ pooled_CC @ basis_CD).trace() / pooled_CC.trace())
        relative = float((changed[dimension] - dense_NPC).norm() / reach)
        print(f"  D = {dimension:4}  error {relative:.3f}  variance covered {covered:.3f}", flush=True)


def step(classes: int, channels: int, budget: float, device_name: str, threads: int) -> None:
    torch.set_num_threads(threads)
    device = torch.device(device_name)
    counts = [max(2, int(1000 * 500 ** (-label / (classes - 1)))) for label in range(classes)]
    maps = torch.rand(BATCH, channels, SIDE, SIDE, device=device).requires_grad_()
    second_B = torch.arange(BATCH, device=device) % 2 == 1
    generator = torch.Generator().manual_seed(0)
    held = memory(device)
    transfer = SemanticTransfer(counts, channels, min_seen=1, memory_budget_gb=budget).to(device)

    def run() -> None:
        targets_B = torch.randint(classes, (BATCH,), generator=generator).to(device)
        changed, weights_B = transfer(maps, targets_B, second_B)
        (changed.mean(dim=(1, 2, 3)) * weights_B).sum().backward()

    run()
    taken = seconds(run, device, 2) / 2
    peak = memory(device) - held
    print(
        f"K = {classes:5}  C = {channels:5}  {taken:8.3f} s a step  {peak / 1e9:6.2f} GB  {transfer.form}", flush=True
    )


def memory(device: torch.device) -> float:
    """Return the peak memory so far, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status").read_text()  # `getrusage` includes the memory of the parent process
    return 1024.0 * int(status.split("VmHWM:")[1].split()[0])


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--budget", type=float, default=2.0, help="memory budget of the transfer in GB")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--skip-error", action="store_true")
    parser.add_argument("--skip-steps", action="store_true")
    options = parser.parse_args(given)
    torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    print(f"torch {torch.__version__}, {device}, {options.threads} threads, budget {options.budget:g} GB", flush=True)
    if not options.skip_error:
        for decay in (0.5, 1.0):
            error(64, (8, 16, 32, 48, 64), decay)
            error(512, (32, 64, 128, 256), decay)
    if not options.skip_steps:
        for classes, channels in CASES:
            arguments = (classes, channels, options.budget, str(device), options.threads)
            process = multiprocessing.get_context("spawn").Process(target=step, args=arguments)
            process.start()
            process.join()


if __name__ == "__main__":
    main()
