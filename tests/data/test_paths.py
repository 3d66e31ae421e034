import os
from pathlib import Path

import pytest

from longtail.data.paths import check_files, relative_paths
from longtail.errors import InputError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_one_spelling_for_every_path(tmp_path: Path) -> None:
    given = ["cat/1.png", "./cat//1.png", "dog/../cat/1.png", f"{tmp_path}/cat/1.png"]
    assert set(relative_paths(tmp_path, given)) == {"cat/1.png"}


def test_absolute_path_below_a_root_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for home in ("real", "link"):
        assert relative_paths(tmp_path / "link", [f"{tmp_path}/{home}/cat/1.png"]) == ("cat/1.png",)


@pytest.mark.parametrize("path", ["../secret.png", "cat/../../secret.png", "/etc/secret.png", "..", ""])
def test_path_that_leaves_the_root(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match=r"1 path leads out of the data root .* copy the files below it"):
        relative_paths(tmp_path, ["cat/1.png", path])


def test_a_folder_whose_name_starts_like_the_root_is_outside(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leads out of the data root"):
        relative_paths(tmp_path / "data", [f"{tmp_path}/data2/1.png"])


def test_missing_files_are_counted_and_ten_named(tmp_path: Path) -> None:
    touch(tmp_path / "cat/0.png")
    with pytest.raises(InputError) as caught:
        check_files(tmp_path, [f"cat/{k}.png" for k in range(13)] + ["dog/0.png"])
    message = str(caught.value)
    assert message.startswith("13 of 14 image files are missing below")
    assert "  cat/10.png\n  ... and 3 more" in message
    assert "cat/11.png" not in message


def test_a_folder_is_no_image_file(tmp_path: Path) -> None:
    (tmp_path / "cat/0.png").mkdir(parents=True)
    with pytest.raises(InputError, match="1 of 1 image files are missing"):
        check_files(tmp_path, ["cat/0.png"])


def test_zero_byte_in_a_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        check_files(tmp_path, ["cat\0/0.png"])


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder at .*with --root"):
        check_files(tmp_path / "nowhere", ["0.png"])


def test_symbolic_links_may_stay_inside(tmp_path: Path) -> None:
    touch(tmp_path / "root/cat/0.png")
    os.symlink(tmp_path / "root/cat/0.png", tmp_path / "root/cat/1.png")
    os.symlink(tmp_path / "root/cat", tmp_path / "root/feline")
    check_files(tmp_path / "root", ["cat/0.png", "cat/1.png", "feline/0.png"])


def test_symbolic_links_must_not_escape(tmp_path: Path) -> None:
    touch(tmp_path / "root/cat/0.png")
    touch(tmp_path / "secret/0.png")
    os.symlink(tmp_path / "secret/0.png", tmp_path / "root/cat/1.png")
    os.symlink(tmp_path / "secret", tmp_path / "root/dog")
    with pytest.raises(InputError, match=r"2 paths lead out of the data root") as caught:
        check_files(tmp_path / "root", ["cat/0.png", "cat/1.png", "dog/0.png"])
    assert "  cat/1.png\n  dog/0.png" in str(caught.value)


def test_root_that_is_itself_a_link(tmp_path: Path) -> None:
    touch(tmp_path / "real/cat/0.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    check_files(tmp_path / "link", ["cat/0.png"])
