import base64
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from longtail.data.load import load_data
from longtail.evaluation import Predictions
from longtail.report.images import LARGEST, load_thumbnails, png_uri
from longtail.run import Run

from .made_up import predictions, write_run


def decoded(uri: str) -> Image.Image:
    assert uri.startswith("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def test_a_small_picture_keeps_its_pixels() -> None:
    image = torch.randint(0, 256, (3, 5, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    np.testing.assert_array_equal(np.asarray(decoded(png_uri(image))), image.permute(1, 2, 0).numpy())


def test_a_large_picture_is_made_smaller_in_its_proportions() -> None:
    assert decoded(png_uri(torch.zeros(3, 600, 300, dtype=torch.uint8))).size == (LARGEST // 2, LARGEST)


def test_images_come_from_the_first_run_whose_data_are_unchanged(tmp_path: Path) -> None:
    other = Run.load(write_run(tmp_path / "other", predictions(0.0)))
    data = load_data(other.config.data, torch.device("cpu"))
    labels = data.test.targets
    found = Predictions(labels, data.group_counts, predicted=labels)
    thumbnails, reason = load_thumbnails([other, Run.load(write_run(tmp_path / "same", found))])
    assert reason == ""
    assert thumbnails is not None
    assert thumbnails(0).equal(data.test.images.thumbnail(0))


def test_without_images_there_is_a_reason(tmp_path: Path) -> None:
    run = Run.load(write_run(tmp_path / "run", predictions(0.0)))
    thumbnails, reason = load_thumbnails([run])
    assert thumbnails is None
    assert reason == f"the test images have changed since {run.folder} was trained"
    assert load_thumbnails([]) == (None, "")


def test_data_that_cannot_be_read_are_a_reason(tmp_path: Path) -> None:
    run = Run.load(write_run(tmp_path / "run", predictions(0.0)))
    text = (run.folder / "config.yaml").read_text().replace("name: digits-lt", f"name: {tmp_path / 'none'}")
    (run.folder / "config.yaml").write_text(text)
    thumbnails, reason = load_thumbnails([Run.load(run.folder)])
    assert thumbnails is None
    assert reason.startswith("the data cannot be read: ")
