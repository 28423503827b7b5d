"""Names that have been replaced and are kept for one version."""

import warnings
from operator import attrgetter
from typing import Any


def renamed(old: str, new: str) -> Any:
    """Return a property ``old`` that reads or calls what is ``new`` now, with a DeprecationWarning."""

    def read(self: Any) -> Any:
        name = type(self).__name__
        warnings.warn(f"{name}.{old} is now {name}.{new}; the old name goes in 0.3", DeprecationWarning, stacklevel=2)
        return attrgetter(new)(self)

    return property(read, doc=f"Deprecated: the former name of `{new}`; goes in 0.3.")
