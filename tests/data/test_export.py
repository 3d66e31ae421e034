import csv

import numpy as np
import pytest
import torch
from PIL import Image

from longtail.data.dataset import Dataset, Part, Split
from longtail.data.export import export_dataset, folder_name
from longtail.data.resident import ResidentImages
from longtail.errors import InputError

NAMES = ("ant", "bee/wasp", "..")


def part(num: int, seed: int) -> Part:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (num, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return Part(ResidentImages(pixels), torch.randint(0, 3, (num,), generator=generator))


def dataset(num: int = 12, *, val: bool = True, names: tuple[str, ...] = NAMES) -> Dataset:
    return Dataset("made-up", names, part(num, 0), part(5, 1) if val else None, part(7, 2), Split("full", "", num))


def rows_of(table):
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("num", [12, 600])  # less than one batch, and several batches with a remainder
def test_pngs_hold_the_very_pixels_in_order_within_each_class(num, tmp_path):
    data = dataset(num)
    export_dataset(data, tmp_path / "out")
    for split, images in (("train", data.train), ("val", data.val), ("test", data.test)):
        for label, name in enumerate(("ant", "bee%2Fwasp", "%2E%2E")):
            expected = images.images.pixels[images.targets == label].permute(0, 2, 3, 1).numpy()
            files = sorted((tmp_path / "out" / split / name).iterdir())
            got = np.stack([np.asarray(Image.open(file)) for file in files])
            np.testing.assert_array_equal(got, expected)
            assert {file.suffix for file in files} == {".png"}
            assert len({len(file.name) for file in files}) == 1


def test_table_lists_the_same_images_in_the_same_order(tmp_path):
    data = dataset()
    table = export_dataset(data, tmp_path / "out")
    assert table == tmp_path / "out" / "dataset.csv"
    rows = rows_of(table)
    assert list(rows[0]) == ["path", "label", "split"]
    on_disk = {str(file.relative_to(tmp_path / "out").as_posix()) for file in (tmp_path / "out").rglob("*.png")}
    assert {row["path"] for row in rows} == on_disk
    assert len(rows) == len(on_disk) == 12 + 5 + 7
    for split, images in (("train", data.train), ("val", data.val), ("test", data.test)):
        mine = [row for row in rows if row["split"] == split]
        assert [row["label"] for row in mine] == [NAMES[i] for i in sorted(images.targets.tolist())]
        by_class = [[row["path"] for row in mine if row["label"] == name] for name in NAMES]
        assert all(paths == sorted(paths) for paths in by_class)


def test_no_val_folder_without_a_val_part(tmp_path):
    rows = rows_of(export_dataset(dataset(val=False), tmp_path))
    assert {row["split"] for row in rows} == {"train", "test"}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["dataset.csv", "test", "train"]


def test_class_without_images_gets_no_folder(tmp_path):
    data = dataset(names=(*NAMES, "absent"))
    export_dataset(data, tmp_path)
    assert not (tmp_path / "train" / "absent").exists()


def test_progress_counts_every_image(tmp_path):
    seen = []
    export_dataset(dataset(), tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 24) for done in range(1, 25)]


def test_target_that_is_not_empty_is_refused_and_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("keep")
    with pytest.raises(InputError, match="exists and is not an empty folder; delete it or give another"):
        export_dataset(dataset(), tmp_path)
    with pytest.raises(InputError, match=r"precious\.txt exists and is not an empty folder"):
        export_dataset(dataset(), tmp_path / "precious.txt")
    assert [entry.name for entry in tmp_path.iterdir()] == ["precious.txt"]


def test_target_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*file.out: "):
        export_dataset(dataset(), tmp_path / "file" / "out")
    with pytest.raises(InputError, match="cannot write to"):
        export_dataset(dataset(names=("ant", "b" * 300, "c")), tmp_path / "long")


def test_two_classes_of_one_name_are_refused(tmp_path):
    with pytest.raises(InputError, match="two classes of made-up have the same name"):
        export_dataset(dataset(names=("ant", "bee", "ant")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folder_names_stay_inside_and_differ():
    names = [
        "ant",
        "Ant",
        "a/b",
        "a%2Fb",
        "a\\b",
        ".",
        "..",
        "...",
        ".a",
        "a.",
        " a",
        "a ",
        "",
        "%",
        "a\nb",
        "a:b",
        "été",
        "C#",
    ]
    folders = [folder_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert folders[0] == "ant"
    assert folder_name("été") == "été"
    for folder in folders:
        assert folder
        assert not set(folder) & set('/\\\n:*?"<>|\0')
        assert folder == folder.strip(". ")


def test_an_interrupt_leaves_the_target_as_it_was(tmp_path):
    def interrupt(done, total):
        if done == 15:
            raise KeyboardInterrupt

    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with pytest.raises(KeyboardInterrupt):
            export_dataset(dataset(), tmp_path / name, interrupt)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
