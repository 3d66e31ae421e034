"""The trainer examples run in their own process, draw with our sampler, and print scores."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import longtail as lt

ROOT = Path(__file__).parent.parent
TRAINERS = ROOT / "examples" / "trainers"
PACKAGES = {
    "fastai_learner.py": ["fastai"],
    "hugging_face_trainer.py": ["transformers", "accelerate"],
    "keras_torch.py": ["keras"],
    "lightning_trainer.py": ["lightning"],
    "plain_pytorch.py": [],
}
# runs a script and prints the epochs that a sampler starts and the uses of the loss; the examples name
# the arguments of `order`, iterators do not
SPY = """
import runpy, sys
from longtail.samplers import Sampler
order = Sampler.order
def spy(sampler, *place, **named):
    if place:
        print(f"drawn: {place[1]}", flush=True)
    return order(sampler, *place, **named)
Sampler.order = spy
from longtail.losses import BalancedSoftmax
per_example = BalancedSoftmax.per_example
def spy_loss(loss, *inputs):
    print("loss computed", flush=True)
    return per_example(loss, *inputs)
BalancedSoftmax.per_example = spy_loss
sys.path.insert(0, sys.argv[1])
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# the calls of timm's train.py, which is not part of the package
STAND_IN = """
import sys, torch
from timm.data import create_dataset, create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.models import create_model

def main():
    model = create_model("test_resnet", num_classes=3)
    options = {"input_size": (3, 32, 32), "batch_size": 8, "num_workers": 0, "persistent_workers": False,
               "device": torch.device("cpu")}
    train = create_loader(create_dataset("", sys.argv[1], split="train"), is_training=True, **options)
    create_loader(create_dataset("", sys.argv[1], split="validation"), is_training=False, **options)
    loss = LabelSmoothingCrossEntropy(smoothing=0.1).to(device=torch.device("cpu"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for epoch in range(2):
        for images, targets in train:
            optimizer.zero_grad()
            loss(model(images), targets).backward()
            optimizer.step()

if __name__ == "__main__":
    main()
"""


def run(folder: Path, example: str, *args: str) -> str:
    """Run an example in a folder and return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SPY, str(TRAINERS), str(TRAINERS / example), *args]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def drawn_epochs(printed: str) -> list[int]:
    return [int(epoch) for epoch in re.findall(r"drawn: (\d+)", printed)]


def skip_unless_installed(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs `pip install {package}`")


def test_every_example_is_tested_and_short():
    examples = {path.name for path in TRAINERS.glob("*.py")}
    assert examples == {*PACKAGES, "timm_train.py", "toy.py"}
    assert all(len(path.read_text("utf-8").splitlines()) < 80 for path in TRAINERS.glob("*.py"))


@pytest.mark.parametrize("example", PACKAGES)
def test_trainer_draws_every_epoch_with_our_sampler(tmp_path, example):
    skip_unless_installed(*PACKAGES[example])
    printed = run(tmp_path, example)
    epochs = drawn_epochs(printed)
    assert epochs == list(range(len(epochs)))
    assert len(epochs) in (5, 6)  # Keras draws one more, to build the model
    assert "loss computed" in printed
    balanced, few = re.findall(r"balanced ([\d.]+), few ([\d.]+)", printed)[-1]
    assert float(balanced) > 60, few  # 33 is chance


def write_images(folder: Path) -> None:
    """Write 24, 8 and 4 training images and 2 validation images per class."""
    from PIL import Image

    for split, counts in (("train", (24, 8, 4)), ("validation", (2, 2, 2))):
        for label, count in enumerate(counts):
            (folder / split / f"c{label}").mkdir(parents=True)
            for number in range(count):
                color = tuple(200 if channel == label else 10 * number for channel in range(3))
                Image.new("RGB", (32, 32), color).save(folder / split / f"c{label}" / f"{number}.png")


def test_timm_script_gets_our_sampler_and_loss(tmp_path):
    skip_unless_installed("timm")
    write_images(tmp_path)
    (tmp_path / "train.py").write_text(STAND_IN)
    printed = run(tmp_path, "timm_train.py", "train.py", str(tmp_path))
    assert drawn_epochs(printed) == [0, 1]
    assert "loss computed" in printed
    assert re.search(r"balanced [\d.]+, few [\d.]+", printed)


@pytest.mark.parametrize("prefetch", [False, True])
def test_timm_loader_keeps_its_batches_and_draws_with_our_sampler(tmp_path, prefetch):
    timm_data = pytest.importorskip("timm.data", reason="needs `pip install timm`")
    write_images(tmp_path)
    example = runpy.run_path(str(TRAINERS / "timm_train.py"))
    dataset = timm_data.create_dataset("", str(tmp_path), split="train")
    options = {"num_workers": 0, "persistent_workers": False, "device": torch.device("cpu"), "use_prefetcher": prefetch}
    loader = example["sampled_loader"](dataset, (3, 32, 32), 8, is_training=True, **options)
    order = lt.samplers.SquareRootSampler([0] * 24 + [1] * 8 + [2] * 4).order(seed=0, epoch=0)
    labels = torch.tensor([0] * 24 + [1] * 8 + [2] * 4)[order]
    assert torch.equal(torch.cat([targets for _, targets in loader]), labels[:32])  # batches of 8, the last is dropped
    assert torch.equal(example["balanced_loss"]().counts_C, torch.bincount(labels).float())


@pytest.mark.skipif("TIMM_TRAIN" not in os.environ, reason="needs TIMM_TRAIN, the path of train.py of a timm checkout")
def test_timm_train_script_of_a_checkout(tmp_path):
    write_images(tmp_path)
    size = ["--img-size", "32", "--num-classes", "3", "-b", "8", "-j", "1"]
    options = ["--model", "test_resnet", "--device", "cpu", "--epochs", "2", "--cooldown-epochs", "0", *size]
    printed = run(tmp_path, "timm_train.py", os.environ["TIMM_TRAIN"], "--data-dir", str(tmp_path), *options)
    assert drawn_epochs(printed) == [0, 1]
    assert "loss computed" in printed
    assert re.search(r"balanced [\d.]+, few [\d.]+", printed)


def test_accelerate_distributes_the_batches_of_a_sampler_without_ranks():
    data_loader = pytest.importorskip("accelerate.data_loader")
    sampler = lt.samplers.SquareRootSampler([0] * 20 + [1] * 4)
    batches = torch.utils.data.BatchSampler(sampler, batch_size=3, drop_last=False)
    order = list(torch.split(sampler.order(seed=0, epoch=0), 3))
    for rank in (0, 1):
        sampler.set_epoch(0)
        shard = data_loader.BatchSamplerShard(batches, num_processes=2, process_index=rank)
        assert list(shard) == [batch.tolist() for batch in order[rank::2]]
