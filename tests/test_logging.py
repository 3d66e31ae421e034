"""Messages and progress on stderr."""

import logging
import subprocess
import sys

from longtail._logging import log_to_stderr

LOGGER = logging.getLogger("longtail")


def test_messages_go_to_stderr_with_the_prefix_of_their_level(capsys):
    with log_to_stderr():
        LOGGER.debug("hidden")
        LOGGER.info("training %s", "[ce]")
        LOGGER.warning("two balanced parts")
        LOGGER.error("lost")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "training [ce]\nwarning: two balanced parts\nerror: lost\n"


def test_the_logger_is_left_as_it_was():
    before = (LOGGER.level, LOGGER.propagate, list(LOGGER.handlers))
    with log_to_stderr(logging.DEBUG):
        assert LOGGER.isEnabledFor(logging.DEBUG)
    assert (LOGGER.level, LOGGER.propagate, LOGGER.handlers) == before


def test_the_library_is_silent_by_default():
    code = "import logging, longtail; logging.getLogger('longtail').warning('unheard')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr == ""
