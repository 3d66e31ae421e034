from pathlib import Path

import torch

from longtail.data.duplicates import equal_files, equal_pixels


def test_equal_pixels_names_the_first_twin() -> None:
    pixels = torch.randint(0, 256, (8, 3, 4, 4), dtype=torch.uint8)
    pixels[6] = pixels[1]
    pixels[3] = pixels[1]
    pixels[7] = pixels[5]  # both in the test part: no matter
    assert equal_pixels(pixels, [0, 1, 2, 3], [4, 5, 6, 7]) == [(6, 1)]
    pixels[7, 2, 3, 3] ^= 1
    assert equal_pixels(pixels, [5], [7]) == []


def test_equal_files(tmp_path: Path) -> None:
    contents = [b"a" * 500, b"b" * 500, b"b" + b"a" * 499, b"c" * 700, b"a" * 500, b"", b"", b"c" * 699]
    paths = [tmp_path / str(k) for k in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    train, test = [0, 1, 3, 5], [2, 4, 6, 7]  # 2 has the size and the last bytes of 0, 7 all but the size of 3
    slow = [
        (i, next(j for j in train if contents[j] == contents[i]))
        for i in test
        if contents[i] in [contents[j] for j in train]
    ]
    assert equal_files(paths, train, test) == slow == [(4, 0), (6, 5)]
