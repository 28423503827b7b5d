"""Standing where a transformers model is expected: all that an object does not define itself is the model's own."""

from collections.abc import Callable
from typing import Any

_MOVING = frozenset({"to", "cpu", "cuda", "float", "half", "bfloat16", "eval", "train", "requires_grad_"})
"""Methods of a module that return the module itself."""


class ModuleProxy:
    """Passes every attribute that it does not define, and does not name with an underscore, on to ``_base``."""

    _base: Any

    def _moved(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call a method of the model that moves, casts or switches it."""
        method(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the bare model's forward pass."""
        return self._base(*args, **kwargs)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The model's class, as a proxy has it: transformers decides by class name what a pipeline accepts."""
        base = self.__dict__.get("_base")
        return type(self) if base is None else type(base)

    def __getattr__(self, name: str) -> Any:
        base = self.__dict__.get("_base")  # absent while the object is being copied or unpickled
        if base is None:
            raise AttributeError(name)
        found = getattr(base, name)
        return self._moving(found) if name in _MOVING else found

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or any(name in vars(kind) for kind in type(self).__mro__):
            object.__setattr__(self, name, value)
        else:
            setattr(self._base, name, value)

    def _moving(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a method of the model that returns the model: it returns the wrapper."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self._moved(method, *args, **kwargs)
            return self

        return call
