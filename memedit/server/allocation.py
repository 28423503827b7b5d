"""Memory held together: a server has many threads, and glibc gives each a heap that it seldom gives back."""

import ctypes
from typing import Any

_ARENA_MAX = -8
"""``M_ARENA_MAX`` of glibc's malloc.h."""
_ARENAS = 2


def share_arenas() -> bool:
    """Have all threads share two heaps from now on; return whether the system's allocator has such a setting."""
    libc = _libc()
    return libc is not None and bool(libc.mallopt(_ARENA_MAX, _ARENAS))


def give_back() -> None:
    """Return memory that is free to the system, where its allocator can."""
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)


def _libc() -> Any:
    """The C library of this process where it is glibc."""
    try:
        found = ctypes.CDLL(None)
        return found if hasattr(found, "malloc_trim") and hasattr(found, "mallopt") else None
    except OSError:
        return None
