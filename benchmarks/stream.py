"""Images per second of streamed training views, compared with ImageFolder and a DataLoader of torchvision.

    python benchmarks/stream.py [--workers 2] [--rounds 5] [--sizes 366x274 4000x3000] [--output stream.json]

Both sides read the same JPEG files in the same number of processes, crop at random to 224 pixels, flip, and deliver
normalized float32 batches. Torchvision does all of it in the workers, which are kept between epochs; longtail flips and
normalizes on the device, here this process. An epoch of each side runs in turn, after one that is not counted and that
writes the reduced copies of the images where they are large ("cached"). The median of each side is printed, and the
median and range of the ratios of the rounds to torchvision. The photographs are those of
scikit-learn, enlarged, with noise of the spectrum of natural images.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from timing import seconds
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from longtail.augment.policies import Flip
from longtail.data.cache import image_cache
from longtail.data.decode import PLAIN
from longtail.data.load import STREAMED_STATISTICS
from longtail.data.stream import StreamedImages
from longtail.models import LinearHead, small_net
from longtail.models.classifier import Classifier

SIZE, BATCH = 224, 64
Epoch = Callable[[], Iterator[torch.Tensor]]


def photo(seed: int, width: int, height: int) -> Image.Image:
    """Return a photograph-like image that depends only on its arguments."""
    rng = np.random.default_rng(seed)
    photographs = load_sample_images().images
    whole = Image.fromarray(photographs[seed % len(photographs)])
    left, top = rng.integers(0, whole.width - 400), rng.integers(0, whole.height - 300)
    part = whole.resize((width, height), Image.Resampling.BICUBIC, box=(left, top, left + 400, top + 300))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = 1
    detail = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) / frequency, s=(height, width))
    pixels = np.asarray(part) + (14 * detail / detail.std())[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_photos(folder: Path, width: int, height: int, count: int, distinct: int) -> list[Path]:
    """Write JPEG files of two classes, as links to a few distinct files, which are costly to make."""
    for index in range(distinct):
        photo(index, width, height).save(folder / f"{index}.jpg", quality=90)
    paths = []
    for index in range(count):
        path = folder / "classes" / f"class{index % 2}" / f"{index:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(folder / f"{index % distinct}.jpg", path)
        paths.append(path)
    return paths


def ours(paths: list[Path], workers: int, cache: Path | None = None) -> Epoch:
    copies = None if cache is None else image_cache(str(cache), paths, SIZE, PLAIN)
    images, flip = StreamedImages(paths, SIZE, workers=workers, cache=copies), Flip()
    model = Classifier(small_net(), LinearHead(64, 2), *STREAMED_STATISTICS)
    batch = min(BATCH, len(paths))

    def epoch() -> Iterator[torch.Tensor]:
        order_SB = torch.randperm(len(paths))[: len(paths) // batch * batch].view(-1, batch)
        uniforms_SBR = torch.rand(*order_SB.shape, 5)
        for pixels, uniforms_BR in zip(images.batches(order_SB, uniforms_SBR), uniforms_SBR, strict=True):
            yield model.normalized(flip(pixels, uniforms_BR[:, 4:]))

    return epoch


def torchvision(paths: list[Path], workers: int) -> Epoch:
    steps = [
        transforms.RandomResizedCrop(SIZE),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(*STREAMED_STATISTICS),
    ]
    loader = DataLoader(
        ImageFolder(paths[0].parent.parent, transforms.Compose(steps)),
        batch_size=min(BATCH, len(paths)),
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return lambda: (images for images, _ in loader)


def compare(width: int, height: int, count: int, distinct: int, workers: int, rounds: int) -> dict:
    """Return the images per second of both sides, and the ratios of the rounds."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photos(Path(folder), width, height, count, distinct)
        sides = {"longtail": ours(paths, workers), "torchvision": torchvision(paths, workers)}
        if image_cache(f"{folder}/cache", paths, SIZE, PLAIN) is not None:
            sides["longtail, cached"] = ours(paths, workers, Path(folder, "cache"))
        images = count // min(BATCH, count) * min(BATCH, count)
        taken: dict[str, list[float]] = {name: [] for name in sides}
        for each in range(rounds + 1):
            for name, epoch in sides.items():
                time = seconds(lambda epoch=epoch: [batch.shape for batch in epoch()], torch.device("cpu"))
                if each > 0:
                    taken[name].append(time)
    ratios = {
        name: [theirs / mine for mine, theirs in zip(times, taken["torchvision"], strict=True)]
        for name, times in taken.items()
        if name != "torchvision"
    }
    rates = {name: images / statistics.median(times) for name, times in taken.items()}
    return {"width": width, "height": height, "images_per_second": rates, "ratios": ratios, "workers": workers}


def lines(result: dict) -> Iterator[str]:
    rates = result["images_per_second"]
    for name, ratios in result["ratios"].items():
        yield (
            f"| {result['width']} x {result['height']} | {name} | {result['workers']} | {rates[name]:.0f} | "
            f"{rates['torchvision']:.0f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["366x274", "4000x3000"], help="width x height of the files")
    parser.add_argument("--counts", nargs="+", type=int, default=[1024, 64], help="images of an epoch, for each size")
    parser.add_argument("--distinct", nargs="+", type=int, default=[32, 8], help="distinct files, for each size")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    print("| JPEG files | side | workers | images/s | torchvision, images/s | ratio of the rounds, median (range) |")
    print("|---|---|---|---|---|---|")
    results = []
    for size, count, distinct in zip(options.sizes, options.counts, options.distinct, strict=True):
        width, height = map(int, size.split("x"))
        results.append(compare(width, height, count, distinct, options.workers, options.rounds))
        print("\n".join(lines(results[-1])), flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
