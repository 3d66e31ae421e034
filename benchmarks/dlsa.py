"""Cost of a flow filter: its mixture compared with a direct implementation, and its time at the size of the paper.

    python benchmarks/dlsa.py [--batch 1024] [--clusters 500] [--dim 2048] [--examples 50000] [--rounds 3] [--threads 2]

Mixture: log-density and log-posterior of a batch of latents, then with gradients at a quarter of the batch, for which
the direct implementation would need 16 GB. The direct implementation computes the differences u - mu_k as an array of
B x K x D numbers, as in the authors' code. Each side runs in separate processes, alternately. Printed are median and
range of the seconds, and the maximum growth of resident memory (with the batch, without centers and libraries).

Filter: seconds to predict all examples, measured completely, and to fit one filter, extrapolated from one measured
epoch over `--fit-examples` examples to all examples and the 50 epochs of the paper. Processor seconds per thread, which
exclude other programs, are in parentheses.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from timing import seconds
from torch import Tensor

from longtail.posthoc.dlsa import FilterSettings, FlowFilter, GaussianMixture, train_filter

CPU = torch.device("cpu")


def transcription(u_BD: Tensor, centers_KD: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mixture by its definition, with the array of all differences."""
    squares_BK = (u_BD.unsqueeze(1) - centers_KD).square().sum(-1)
    log_density_BK = -0.5 * (u_BD.shape[1] * math.log(2 * math.pi) + squares_BK)
    return log_density_BK.logsumexp(-1) - math.log(len(centers_KD)), log_density_BK.log_softmax(-1)


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure_side(options: argparse.Namespace) -> None:
    """Measure seconds and bytes of one pass, after a warm-up pass over two rows; runs in a separate process."""
    mixture = GaussianMixture(options.dim, options.clusters)
    source = torch.Generator().manual_seed(0)

    def run(rows: int) -> None:
        u_BD = torch.randn(rows, options.dim, generator=source)
        with torch.set_grad_enabled(options.gradient):
            u_BD.requires_grad_(options.gradient)
            ours = options.side == "ours"
            density_B, posterior_BK = mixture(u_BD) if ours else transcription(u_BD, mixture.centers_KD)
            if options.gradient:
                (density_B.mean() + posterior_BK.mean()).backward()

    run(2)
    before = peak_bytes()
    taken = seconds(lambda: run(options.batch), CPU)
    print(json.dumps({"seconds": taken, "bytes": peak_bytes() - before}))


def compare_mixtures(options: argparse.Namespace, batch: int, gradient: bool) -> None:
    sides: dict[str, list[dict[str, float]]] = {"ours": [], "B x K x D": []}
    sizes = ["--batch", batch, "--clusters", options.clusters, "--dim", options.dim, "--threads", options.threads]
    for _ in range(options.rounds):
        for side, rows in sides.items():
            command = [sys.executable, __file__, "--side", side, *sizes, *(["--gradient"] if gradient else [])]
            done = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout))
    medians = [statistics.median(row["seconds"] for row in rows) for rows in sides.values()]
    peaks = [max(row["bytes"] for row in rows) for rows in sides.values()]
    print(f"mixture, B = {batch}{', with gradient' if gradient else ''}:")
    for (side, rows), median, peak in zip(sides.items(), medians, peaks, strict=True):
        low, high = min(row["seconds"] for row in rows), max(row["seconds"] for row in rows)
        print(f"  {side:10} {median:8.3f} s ({low:.3f} to {high:.3f}) {peak / 2**20:9.1f} MiB")
    print(f"  {medians[1] / medians[0]:.1f}x less time, {peaks[1] / peaks[0]:.1f}x less memory", flush=True)


def wall_and_work(run: Callable[[], object], options: argparse.Namespace) -> tuple[float, float]:
    """Measure wall-clock seconds, and processor seconds per thread, the time on an otherwise idle machine."""
    started = time.process_time()
    return seconds(run, CPU), (time.process_time() - started) / options.threads


def time_filter(options: argparse.Namespace) -> None:
    source = torch.Generator().manual_seed(0)
    features_ND = torch.randn(options.examples, options.dim, generator=source).relu()
    targets_N = torch.randint(1000, (options.examples,), generator=source)
    flow_filter = FlowFilter(options.dim, clusters=options.clusters)
    some = min(options.fit_examples, options.examples)
    once = FilterSettings(epochs=1)
    epoch, work = wall_and_work(lambda: train_filter(flow_filter, features_ND[:some], targets_N[:some], once), options)
    times = options.examples / some
    print(
        f"fit: {epoch:.1f} s (processor {work:.1f}) for an epoch over {some} examples, {once.batch_size} per batch;\n"
        f"     scaled to {options.examples} examples, {epoch * times:.0f} s ({work * times:.0f}) per epoch, and "
        f"{50 * epoch * times / 60:.0f} minutes ({50 * work * times / 60:.0f}) for one filter with 50 epochs"
    )
    taken, work = wall_and_work(lambda: flow_filter.assign(features_ND), options)
    print(f"predict: {taken:.1f} s (processor {work:.1f}) for density and cluster of {options.examples} examples")
    print(f"peak memory of fit and predict, including the features: {peak_bytes() / 2**30:.1f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--clusters", type=int, default=500)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--fit-examples", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=("ours", "B x K x D"), help=argparse.SUPPRESS)
    parser.add_argument("--gradient", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.side:
        measure_side(options)
        return
    print(
        f"torch {torch.__version__}, {options.threads} threads, K = {options.clusters}, D = {options.dim}", flush=True
    )
    compare_mixtures(options, options.batch, gradient=False)
    compare_mixtures(options, options.batch // 4, gradient=True)
    time_filter(options)


if __name__ == "__main__":
    main()
