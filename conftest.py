"""One thread for each test process: `pytest -n auto` starts a process per core."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
