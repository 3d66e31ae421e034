"""A run's `result.json` is read or refused."""

from pathlib import Path

import pytest

from longtail.errors import InputError
from longtail.evaluation import group_options, read_result


def test_a_result_is_read(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text('{"method": "ce"}')
    assert read_result(path) == {"method": "ce"}
    path.write_text("{")
    with pytest.raises(InputError, match=r"cannot read .*result\.json: .* anew with: longtail train --resume --out "):
        read_result(path)
    path.write_text("[1]")
    with pytest.raises(InputError, match="must hold a JSON object, not a list"):
        read_result(path)


def test_group_options() -> None:
    assert group_options(None) == group_options({}) == {}
    with pytest.raises(InputError, match='"class_groups" of a result must hold kind, many and few, not'):
        group_options({"kind": "fixed", "many": 3})
