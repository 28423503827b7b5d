"""What tests of several folders share: tiny models and encoders, servers in threads, made-up cases."""

import os
from pathlib import Path


def environment() -> dict[str, str]:
    """Return the variables of a child process that imports this package."""
    folders = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
