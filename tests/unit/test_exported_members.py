"""What the package offers by name."""

import inspect
import subprocess
import sys

import pytest

import memedit
from memedit import errors


@pytest.mark.parametrize("name", memedit.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(memedit, name).__name__ == name
    assert name in dir(memedit)


def test_every_error_is_public() -> None:
    raised = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert raised <= set(memedit.__all__)


def test_every_public_name_is_documented() -> None:
    assert [name for name in memedit.__all__ if not inspect.getdoc(getattr(memedit, name))] == []


def test_unknown_names_are_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'EditMemry'"):
        memedit.EditMemry  # noqa: B018


def test_importing_the_package_is_cheap() -> None:
    code = (
        "import sys, memedit; print([m for m in ('torch', 'numpy', 'sqlalchemy', 'transformers') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
