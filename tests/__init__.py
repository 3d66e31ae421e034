"""The tests. Helpers that assert are rewritten by pytest like the tests themselves, for readable failures."""

import pytest

pytest.register_assert_rewrite("tests.conformance", "tests.losses.reference")
