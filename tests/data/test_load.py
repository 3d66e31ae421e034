import csv
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
import torch
from PIL import Image

from longtail.config.convert import from_mapping, to_mapping
from longtail.config.recipes import names
from longtail.config.schema import DataConfig
from longtail.data import load
from longtail.data.dataset import Dataset
from longtail.data.decode import BadImage, decode_image
from longtail.data.load import NAMES, dataset_from_listing, find_listing, load_data, load_files
from longtail.data.resident import ResidentImages
from longtail.data.stream import StreamedImages
from longtail.data.views import fit_image
from longtail.errors import InputError
from tests.data.helpers import make_classes, noise, save

CPU = torch.device("cpu")


def test_every_data_recipe_is_a_name_that_can_be_loaded():
    assert set(names("data")) <= set(NAMES)


def test_digits_are_digits():
    digits = load_data(DataConfig(val_share=0.1), CPU)
    assert digits.class_counts.counts.tolist() == [112, 79, 57, 41, 29, 21, 14, 11, 7, 5]
    assert torch.bincount(digits.test.targets).tolist() == [50] * 10
    assert digits.val is not None
    assert len(digits.val) + len(digits.train) == 417


def test_digits_share_no_image_between_parts():
    digits = load_data(DataConfig(val_share=0.1), CPU)
    whole = torch.cat([part.images.pixels for part in (digits.train, digits.val, digits.test)])
    from sklearn.datasets import load_digits

    distinct = len({image.tobytes() for image in load_digits().images})
    assert distinct == 1797  # no two digits are equal, so equal pixels would mean a duplicate
    assert len({image.numpy().tobytes() for image in whole}) == len(whole)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digit-lt", "did you mean digits-lt"),
        ("nowhere/at/all", "give one of digits-lt"),
    ],
)
def test_what_is_neither_name_nor_path_is_refused(name, words):
    with pytest.raises(InputError, match=words):
        load_data(DataConfig(name=name), CPU)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"val_share": 1.5}, "`val_share` must be"), ({"imbalance_factor": 0.5}, "`imbalance_factor` must be >= 1")],
)
def test_settings_out_of_range_are_refused_for_digits_too(settings, words):
    with pytest.raises(InputError, match=words):
        load_data(DataConfig(**settings), CPU)


def pixels_of(dataset: Dataset) -> torch.Tensor:
    assert isinstance(dataset.train.images, ResidentImages)
    return dataset.train.images.pixels


def export(root: Path, table: Path) -> None:
    """Write the table of a folder: every image with the name of its class."""
    images = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    with table.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["path", "label"])
        writer.writerows([image, image.split("/")[0]] for image in images)


@pytest.mark.parametrize("class_names", [("cat", "dog", "owl"), ("1", "2", "3"), ("0", "1", "2"), ("x10", "x2", "x9")])
@pytest.mark.parametrize("settings", [{}, {"val_share": 0.2}, {"imbalance_factor": 2.0, "test_per_class": 2}])
def test_a_folder_and_a_table_of_it_give_the_same_bits(
    tmp_path: Path, class_names: tuple[str, ...], settings: dict
) -> None:
    root = make_classes(tmp_path / "images", dict(zip(class_names, (12, 9, 8), strict=True)))
    export(root, tmp_path / "images.csv")
    folder = load_files(DataConfig(name=str(root), **settings))
    table = load_files(DataConfig(name=str(tmp_path / "images.csv"), root=str(root), **settings))
    assert folder.class_names == table.class_names == class_names
    for part in ("train", "val", "test"):
        ours, theirs = getattr(folder, part), getattr(table, part)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert torch.equal(ours.images.pixels, theirs.images.pixels)
            assert torch.equal(ours.targets, theirs.targets)
    assert (folder.mean, folder.std, folder.load_report) == (table.mean, table.std, table.load_report)
    assert folder.split.sha256 == table.split.sha256
    suffix = f"-val{settings['val_share']:g}" if settings.get("val_share") else ""
    assert (folder.split.name, table.split.name) == ("folder" + suffix, "table" + suffix)


def test_parquet_gives_the_same_as_csv(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"cat": 6, "dog": 6})
    export(root, tmp_path / "images.csv")
    rows = list(csv.DictReader((tmp_path / "images.csv").open()))
    columns = {key: [row[key] for row in rows] for key in ("path", "label")}
    pa_parquet.write_table(pa.table(columns), tmp_path / "images.parquet")
    one, other = (load_files(DataConfig(name=str(tmp_path / f"images.{kind}"))) for kind in ("csv", "parquet"))
    assert torch.equal(pixels_of(one), pixels_of(other))
    assert one.split == other.split


def test_pixels_targets_and_identity(tmp_path: Path) -> None:
    make_classes(tmp_path / "train", {"cat": 2, "dog": 1})
    make_classes(tmp_path / "test", {"cat": 1, "dog": 1})
    dataset = load_files(DataConfig(name=str(tmp_path)))
    files = [tmp_path / "train/cat/000.png", tmp_path / "train/cat/001.png", tmp_path / "train/dog/000.png"]
    expected = np.stack([np.array(Image.open(file)).transpose(2, 0, 1) for file in files])
    np.testing.assert_array_equal(pixels_of(dataset).numpy(), expected)
    assert dataset.train.targets.tolist() == [0, 0, 1]
    assert (len(dataset.test), dataset.val, dataset.imbalance_factor) == (2, None, None)
    lines = "train/cat/000.png\t0\ntrain/cat/001.png\t0\ntrain/dog/000.png\t1\n"
    assert dataset.split.sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert (dataset.split.name, dataset.split.images) == ("folder", 3)
    np.testing.assert_allclose(dataset.mean, expected.mean((0, 2, 3)) / 255, atol=1e-9)
    np.testing.assert_allclose(dataset.std, expected.std((0, 2, 3)) / 255, atol=1e-9)
    assert (dataset.load_report.notes, dataset.load_report.skipped, dataset.load_report.duplicates) == ((), 0, 0)


def test_lists_are_found_by_the_folder_or_the_file(tmp_path: Path) -> None:
    make_classes(tmp_path, {"cat": 2, "dog": 2})
    (tmp_path / "a_train.txt").write_text("cat/000.png 0\ndog/000.png 1\n")
    (tmp_path / "a_test.txt").write_text("cat/001.png 0\ndog/001.png 1\n")
    for name in (tmp_path, tmp_path / "a_train.txt"):
        dataset = load_files(DataConfig(name=str(name)))
        assert (dataset.split.name, len(dataset.train), len(dataset.test)) == ("list", 2, 2)


def test_named_lists_use_the_root(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no lists of places-lt"):
        load_files(DataConfig(name="places-lt", root=str(tmp_path)))


def test_names_that_are_no_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file or folder; give a folder with one folder per class, a table"):
        load_files(DataConfig(name=str(tmp_path / "nowhere")))
    (tmp_path / "images.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match="is not a supported kind of data"):
        load_files(DataConfig(name=str(tmp_path / "images.zip")))


def test_a_held_out_test_part_is_noted(tmp_path: Path) -> None:
    dataset = load_files(DataConfig(name=str(make_classes(tmp_path, {"cat": 20, "dog": 10})), val_share=0.1))
    assert torch.bincount(dataset.test.targets).tolist() == [2, 2]
    assert dataset.val is not None
    assert torch.bincount(dataset.val.targets).tolist() == [2, 1]
    assert dataset.load_report.notes[0].startswith(
        "The data have no test split: a balanced one of 4 images, 2 per class"
    )


@pytest.mark.parametrize(
    ("side", "settings", "kind", "size"),
    [
        (32, {}, ResidentImages, 32),
        (64, {}, ResidentImages, 64),
        (65, {}, StreamedImages, 224),
        (80, {"image_size": 48}, ResidentImages, 48),
        (80, {"image_size": 96}, StreamedImages, 96),
        (80, {"image_size": 96, "storage": "resident"}, ResidentImages, 96),
        (32, {"storage": "stream"}, StreamedImages, 32),
    ],
)
def test_storage_and_size(tmp_path: Path, side: int, settings: dict, kind: type, size: int) -> None:
    root = make_classes(tmp_path, {"cat": 4, "dog": 4}, side)
    dataset = load_files(DataConfig(name=str(root), workers=0, **settings))
    for part in (dataset.train, dataset.test):
        assert isinstance(part.images, kind)
        assert part.images.size == size
    (batch,) = dataset.train.images.batches(torch.tensor([[2, 0]]), None)
    first = next(path for path in sorted(root.rglob("*.png")) if torch.equal(view(path, size), batch[1]))
    assert first.parent.name == dataset.class_names[dataset.train.targets[0]]


def view(path: Path, size: int) -> torch.Tensor:
    return fit_image(decode_image(path), size)


def test_streamed_and_resident_hold_the_same_images(tmp_path: Path) -> None:
    name = str(make_classes(tmp_path, {"cat": 9, "dog": 7}))
    resident, streamed = (load_files(DataConfig(name=name, storage=kind, workers=0)) for kind in ("resident", "stream"))
    assert resident.split == streamed.split
    assert torch.equal(resident.train.targets, streamed.train.targets)
    order = torch.arange(len(resident.train))[None]
    (theirs,) = streamed.train.images.batches(order, None)
    assert torch.equal(pixels_of(resident), theirs)
    assert streamed.mean == pytest.approx((0.485, 0.456, 0.406))


def test_images_of_another_size_are_counted(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"cat": 4, "dog": 4})
    save(root / "cat/wide.png", noise(1, 12, 8))
    dataset = load_files(DataConfig(name=str(root)))
    assert "1 of 9 images were not 8 x 8 pixels and were resized." in dataset.load_report.notes


@pytest.mark.parametrize("storage", ["resident", "stream"])
def test_unreadable_images(tmp_path: Path, storage: str) -> None:
    root = make_classes(tmp_path, {"cat": 6, "dog": 6})
    (root / "cat/003.png").write_bytes(b"")
    (root / "dog/001.png").write_bytes((root / "dog/001.png").read_bytes()[:-60])
    config = {"name": str(root), "storage": storage, "workers": 0}
    with pytest.raises(InputError, match=r"2 of 12 images cannot be read; .*\n.*cat/003.png: the file is empty\n"):
        load_files(DataConfig(**config))
    dataset = load_files(DataConfig(**config, on_bad_image="skip"))
    assert dataset.load_report.skipped == 2
    assert dataset.load_report.notes[0].startswith(
        "2 unreadable images were left out: cat/003.png (the file is empty), dog/001.png"
    )
    assert len(dataset.train) + len(dataset.test) == 10
    order = torch.arange(len(dataset.train))[None]
    assert len(next(dataset.train.images.batches(order, None))) == len(dataset.train)


def test_skipping_must_not_empty_a_class_or_a_part(tmp_path: Path) -> None:
    make_classes(tmp_path / "train", {"cat": 2, "dog": 1})
    make_classes(tmp_path / "test", {"cat": 1})
    image = tmp_path / "train/dog/000.png"
    whole = image.read_bytes()
    image.write_bytes(b"")
    config = DataConfig(name=str(tmp_path), on_bad_image="skip")
    with pytest.raises(InputError, match=r"without its 1 unreadable images' have no training image.*\n  dog"):
        load_files(config)
    image.write_bytes(whole)
    (tmp_path / "test/cat/000.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"no image of the test split of .* can be read"):
        load_files(config)


@pytest.mark.parametrize("storage", ["resident", "stream"])
def test_duplicates_are_counted_and_named(tmp_path: Path, storage: str) -> None:
    make_classes(tmp_path / "train", {"cat": 3, "dog": 3})
    make_classes(tmp_path / "test", {"cat": 2, "dog": 2})
    shutil.copy(tmp_path / "train/dog/002.png", tmp_path / "test/cat/copy.png")
    dataset = load_files(DataConfig(name=str(tmp_path), storage=storage, workers=0))
    assert dataset.load_report.duplicates == 1
    assert dataset.load_report.notes == (
        "1 of 5 test images are in the training split too: test/cat/copy.png = train/dog/002.png.",
        "1 images occur under two labels: test/cat/copy.png (cat) = train/dog/002.png (dog).",
    )


def test_many_streamed_images_are_not_read_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_classes(tmp_path, {"cat": 4, "dog": 4})
    (root / "cat/001.png").write_bytes(b"")
    monkeypatch.setattr(load, "CHECK_LIMIT", 7)
    dataset = load_files(DataConfig(name=str(root), storage="stream", workers=0))
    assert "Duplicates were not searched, because there are more than 7 streamed images." in dataset.load_report.notes
    held_it = dataset.train if "cat/001.png" in str(dataset.train.images.paths) else dataset.test
    with pytest.raises(BadImage, match=r"cat/001\.png"):
        list(held_it.images.batches(torch.arange(len(held_it))[None], None))


def test_classes_without_test_images_are_noted(tmp_path: Path) -> None:
    make_classes(tmp_path / "train", {"cat": 2, "dog": 2})
    make_classes(tmp_path / "test", {"cat": 2})
    dataset = load_files(DataConfig(name=str(tmp_path)))
    assert dataset.load_report.notes == ("1 of 2 classes have no test image: dog.",)


def test_a_long_tail_cut_from_own_images(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"cat": 10, "dog": 10, "owl": 10})
    dataset = load_files(DataConfig(name=str(root), imbalance_factor=4, test_per_class=2))
    assert dataset.class_counts.counts.tolist() == [8, 4, 2]
    assert dataset.imbalance_factor == 4
    assert torch.bincount(dataset.test.targets).tolist() == [2, 2, 2]


def test_progress_counts_every_image(tmp_path: Path) -> None:
    config = DataConfig(name=str(make_classes(tmp_path, {"cat": 3, "dog": 3})))
    calls: list[tuple[int, int]] = []
    dataset_from_listing(find_listing(config), config, "cpu", lambda done, of: calls.append((done, of)))
    assert calls == [(6, 6)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 0}, "image.size.* must be"),
        ({"val_share": 1.0}, "`val_share` must be >= 0 and < 1"),
        ({"test_per_class": 0}, "`test_per_class` must be >= 1, got 0"),
    ],
)
def test_settings_are_refused_before_an_image_is_read(tmp_path: Path, settings: dict, message: str) -> None:
    root = make_classes(tmp_path, {"cat": 2, "dog": 2})
    (root / "cat/000.png").write_bytes(b"")
    with pytest.raises(InputError, match=message):
        load_files(DataConfig(name=str(root), **settings))


def test_near_duplicates_are_counted_and_named(tmp_path: Path) -> None:
    def photo(seed: int) -> Image.Image:
        return noise(seed, 9, 8).resize((160, 120), Image.Resampling.BICUBIC)

    for part, seeds in (("train", range(6)), ("test", range(6, 10))):
        for k in seeds:
            save(tmp_path / part / ("cat" if k % 2 else "dog") / f"{k}.png", photo(k))
    save(tmp_path / "test/cat/copy.jpg", photo(1).resize((120, 90)), quality=80)
    assert load_files(DataConfig(name=str(tmp_path), workers=0, resize="pad")).load_report.notes == (
        "1 of 5 test images look like a training image, as resized or re-encoded copies do: test/cat/copy.jpg ~ "
        "train/cat/1.png.",
    )


@pytest.mark.parametrize("storage", ["resident", "stream"])
def test_deep_gray_images_share_one_scale(tmp_path: Path, storage: str) -> None:
    for name, highest in {"cat/0": 4095, "cat/1": 2000, "dog/0": 200, "dog/1": 90}.items():
        values = np.linspace(0, highest, 64).reshape(8, 8).astype(np.uint16)
        save(tmp_path / "train" / f"{name}.png", Image.fromarray(values))
        save(tmp_path / "test" / f"{name}.png", Image.fromarray(values[::-1].copy()))
    dataset = load_files(DataConfig(name=str(tmp_path), storage=storage, workers=0))
    assert dataset.bits == 12
    (batch,) = dataset.train.images.batches(torch.arange(4)[None], None)
    assert batch.amax((1, 2, 3)).tolist() == [255, 125, 12, 5]
    assert any("use 12 bits" in note for note in dataset.load_report.notes)


def test_images_of_one_color_are_noted(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"cat": 4, "dog": 4})
    save(root / "cat/flat.png", Image.new("RGB", (8, 8), (7, 70, 170)))
    notes = load_files(DataConfig(name=str(root))).load_report.notes
    assert "1 images are of a single color or nearly black; check them: cat/flat.png." in notes


def test_new_settings_stay_out_of_old_configurations() -> None:
    plain = to_mapping(DataConfig(name="x"))
    added = {"follow_links", "include", "exclude", "path_column", "label_column", "max_pixels", "cache"}
    assert not added & set(plain)
    used = DataConfig(name="x", exclude=("*_mask.png",), follow_links=True, max_pixels=5)
    assert set(to_mapping(used)) - set(plain) == {"follow_links", "exclude", "max_pixels"}
    assert from_mapping(DataConfig, to_mapping(used)) == used


def white_ends(folder: Path, width: int, height: int, suffix: str = "png") -> Path:
    """Black images with white outer quarters, 6 of "cat" and 3 of "dog"."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 4] = pixels[:, -(width // 4) :] = 255
    for name, count in (("cat", 6), ("dog", 3)):
        for k in range(count):
            pixels[0, 0] = k, count, 0
            save(folder / name / f"{k}.{suffix}", Image.fromarray(pixels))
    return folder


@pytest.mark.parametrize("storage", ["resident", "stream"])
def test_images_that_are_not_square_are_squashed_by_auto(tmp_path: Path, storage: str) -> None:
    config = DataConfig(name=str(white_ends(tmp_path, 60, 30)), storage=storage, workers=0, image_size=16)
    seen = {}
    for resize in ("auto", "crop", "squash", "pad"):
        data = load_files(replace(config, resize=resize))
        (batch,) = data.test.images.batches(torch.tensor([[0, 1]]), None)
        seen[resize] = data.resize, float((batch == 255).all(1).float().mean()), data.load_report.notes
    assert seen["auto"][:2] == seen["squash"][:2] == ("squash", pytest.approx(0.5, abs=0.15))
    assert seen["crop"][:2] == ("crop", 0)
    assert seen["pad"][0] == "pad"
    assert any("2.0 times as wide as high and are squashed" in note for note in seen["auto"][2])
    assert any("leaves out 50% of the area" in note for note in seen["crop"][2])
    assert not any("picture" in note for note in (*seen["squash"][2], *seen["pad"][2]))


def test_square_small_images_are_not_resized_by_auto(tmp_path: Path) -> None:
    data = load_files(DataConfig(name=str(white_ends(tmp_path, 16, 16)), resize="auto"))
    assert data.resize == "crop"
    assert not any("picture" in note for note in data.load_report.notes)
