import subprocess
import sys

import pytest

import longtail.data


def test_every_public_name_exists():
    assert longtail.data.__all__ == sorted(longtail.data.__all__)
    for name in longtail.data.__all__:
        assert getattr(longtail.data, name).__name__ == name
        assert name in dir(longtail.data)
    with pytest.raises(AttributeError, match="has no attribute 'load_dat'"):
        longtail.data.load_dat  # noqa: B018


def test_importing_the_package_imports_no_reader():
    command = (
        "import sys, longtail.data; print(sorted({'PIL', 'pyarrow', 'sklearn', 'torchvision'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
