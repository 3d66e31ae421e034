"""Call the command line in this process."""

import pytest

from longtail.cli import main

DIGITS = ("digits-lt", "--method", "balanced-softmax", "--epochs", "2")


def call(*arguments: object) -> int:
    """Run `longtail ARGUMENTS` and return the exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)
