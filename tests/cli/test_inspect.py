"""`longtail inspect --json` and the keywords of the data settings."""

import inspect
import json
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
from PIL import Image

import longtail as lt
from longtail.cli._options import DataOptions
from longtail.config.schema import DataConfig
from tests.cli.calling import call
from tests.data.helpers import make_classes, noise, save


def test_json_names_everything_that_the_text_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_classes(tmp_path / "train", {"cat": 3, "dog": 2}).parent
    make_classes(tmp_path / "test", {"cat": 1, "dog": 1})
    shutil.copy(root / "train/cat/000.png", root / "test/cat/copy.png")
    shutil.copy(root / "train/cat/001.png", root / "train/dog/twin.png")
    smooth = Image.radial_gradient("L").rotate(20).convert("RGB")
    save(root / "train/cat/large.png", smooth)
    save(root / "test/cat/small.jpg", smooth.resize((180, 180)), quality=90)
    (root / "train/cat/broken.png").write_bytes(b"x")
    (root / "train/cat/raw.cr2").write_bytes(b"x")
    assert call("inspect", str(root), "--on-bad-image", "skip", "--image-size", "8", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["duplicates"] == 1
    assert found["duplicate_images"] == [{"test": "test/cat/copy.png", "train": "train/cat/000.png"}]
    assert found["near_duplicates"] == [{"test": "test/cat/small.jpg", "train": "train/cat/large.png"}]
    twin = {"path": "train/dog/twin.png", "label": "dog", "other_path": "train/cat/001.png", "other_label": "cat"}
    assert found["conflicts"] == [twin]
    assert [each["path"] for each in found["unreadable"]] == ["train/cat/broken.png"]
    left_out = {"reason": "not in a supported image format: .cr2", "count": 1, "paths": []}
    assert found["passed_over"] == [left_out]
    assert len(found["notes"]) >= 5


def test_keywords_of_train_are_the_options_of_the_data() -> None:
    options = {field.name for field in fields(DataOptions)}
    assert options <= {field.name for field in fields(DataConfig)}
    assert options <= set(inspect.signature(lt.train).parameters)


def test_keywords_of_train_and_predict(tmp_path: Path) -> None:
    root = make_classes(tmp_path / "photos", {"cat": 4, "dog": 3})
    save(root / "cat" / "1_mask.png", noise(1))
    held = make_classes(tmp_path / "held", {"cat": 1, "dog": 1})
    run = lt.train(root, "ce", epochs=1, out=tmp_path / "run", exclude=["*_mask.png"], test=held, report=False)
    assert run.result["split"]["images"] == 7
    assert len(run.predictions()) == 2
    (held / "cat" / "broken.png").write_bytes(b"x")
    save(held / "cat" / "1_mask.png", noise(1))
    with pytest.raises(lt.InputError, match="cannot read the image"):
        run.predict(held, workers=0)
    predicted = run.predict(held, workers=0, on_bad_image="skip", exclude=["*_mask.png"])
    assert len(predicted) == 2
    assert [path.name for path, _ in predicted.unreadable] == ["broken.png"]
    with pytest.raises(lt.InputError, match="more than `max_pixels` allows"):
        run.predict(held / "dog", workers=0, max_pixels=10)
