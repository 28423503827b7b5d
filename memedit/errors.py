"""Every error memedit raises on purpose.

::

    MemeditError
    ├── InputError (ValueError)            a value the caller passed cannot be used
    │   ├── ConfigError                    one or more settings are wrong; all are listed
    │   ├── StructureError                 no answer can be held to this schema, pattern or grammar
    │   ├── FieldError                     one field of an edit cannot be used; names the field
    │   ├── DatasetError                   a row of a data file is wrong; names file, line, field
    │   └── UnknownNameError               no such method, model, format ...; lists near matches
    ├── EditNotFoundError (LookupError)    no edit with this id in this namespace
    ├── ConflictError                      the edit contradicts one already in force; names both
    ├── EditChangedError                   the edit is no longer at the version the caller saw
    ├── RepeatedRequestError               another request with the same idempotency key came first
    ├── QuotaError                         a namespace or a key has as many edits as it may
    ├── StoreError                         the edit memory's database
    │   ├── StoreCorruptError              the file is damaged or not an edit memory
    │   ├── StoreReadOnlyError             no permission to write
    │   ├── StoreFullError                 no space left on the device
    │   ├── MemoryNotFoundError            there is no file of this name to read
    │   ├── StoreBusyError                 another process kept the write lock too long
    │   ├── StoreUnavailableError          the database server cannot be reached, or went away
    │   └── StoreVersionError              written by a newer memedit
    ├── VectorIndexError                   the vector index
    │   └── IndexCorruptError              an index file is damaged or does not match its manifest
    ├── ModelError                         a language model or encoder
    │   ├── ModelNotFoundError             not on disk, not in a package, not on a reachable hub
    │   ├── UnsupportedModelError          loaded, but this feature cannot work with it
    │   └── FingerprintMismatchError       an artefact was made for another model or tokenizer
    ├── ServiceError                       a memedit server refused a request or failed; status and code
    │   └── ServiceUnavailableError        it cannot be reached, or said to come back later
    └── MissingExtraError (ImportError)    an optional dependency is absent; names the install command

A message says what failed, shows the value seen, and says what to do.
"""

from collections.abc import Sequence


class MemeditError(Exception):
    """Base of all errors raised on purpose by memedit."""


class InputError(MemeditError, ValueError):
    """A value passed by the caller cannot be used."""


class ConfigError(InputError):
    """One or more settings are wrong; the message lists every problem found."""

    def __init__(self, problems: Sequence[str], source: str = "configuration") -> None:
        self.problems = tuple(problems)
        self.source = source
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{source}: {len(self.problems)} problem(s) found\n{lines}")


class ContextLengthError(InputError):
    """A prompt is longer than the model can read."""


class StructureError(InputError):
    """A schema, pattern, choice or grammar that answers cannot be held to, or can be no longer."""


class FieldError(InputError):
    """One field of an edit cannot be used; ``reason`` says why, ``where`` which of several edits is meant."""

    def __init__(self, field: str, reason: str, where: str = "") -> None:
        self.field, self.reason = field, reason
        super().__init__(f"{where}{field}: {reason}")


class DatasetError(InputError):
    """A row of a data file is wrong.

    ``row`` counts the rows of a file in which they are not lines (an array, a table), from 1; ``line`` the lines.
    """

    def __init__(
        self, message: str, *, path: str, line: int | None = None, row: int | None = None, field: str | None = None
    ) -> None:
        self.path, self.line, self.row, self.field = path, line, row, field
        where = path + place_in_file(line=line, row=row) + (f", field {field!r}" if field else "")
        super().__init__(f"{where}: {message}")


def place_in_file(*, line: int | None, row: int | None) -> str:
    """Return the place of a row in its file, for messages, with a comma in front; empty when it is not known."""
    if row is not None:
        return f", row {row}" + (f" (line {line})" if line is not None and line > 1 else "")
    return "" if line is None else f", line {line}"


class UnknownNameError(InputError):
    """A name that no registered method, model or format has."""


class EditNotFoundError(MemeditError, LookupError):
    """No edit with this id exists in this namespace."""

    def __init__(self, edit_id: str, namespace: str) -> None:
        self.edit_id, self.namespace = edit_id, namespace
        super().__init__(
            f"no edit {edit_id!r} in namespace {namespace!r}; list what is there with "
            f"`memedit edit list --namespace {namespace}`"
        )


class ConflictError(MemeditError):
    """A new edit contradicts one that is in force.

    ``new_id`` is the id the refused edit would have had, ``existing_id`` the edit it contradicts.
    """

    def __init__(self, *, new_id: str, existing_id: str, reason: str) -> None:
        self.new_id, self.existing_id, self.reason = new_id, existing_id, reason
        super().__init__(
            f"edit {new_id} contradicts edit {existing_id}, which is in force: {reason}. "
            "Pass on_conflict='supersede' to replace it, 'keep' to keep both, or withdraw the old one first"
        )


class EditChangedError(MemeditError):
    """An edit is no longer at the version that the caller's change was meant for; nothing was changed."""

    def __init__(self, edit_id: str, expected: int, found: int) -> None:
        self.edit_id, self.expected, self.found = edit_id, expected, found
        super().__init__(
            f"edit {edit_id} is at version {found}, not {expected}: it has been changed meanwhile; "
            "look at it again and repeat the change if it still applies"
        )


class RepeatedRequestError(MemeditError):
    """Another request with the same idempotency key is being worked on, or was done; nothing was changed."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"a request with the idempotency key {key!r} is being worked on; wait and ask again")


class QuotaError(MemeditError):
    """A change would give a namespace, or a key, more edits than its quota allows; nothing was written.

    ``of`` is "namespace" or "key", ``name`` which; ``used`` of ``limit`` edits were there, ``more`` would have come.
    """

    def __init__(self, of: str, name: str, limit: int, used: int, more: int) -> None:
        self.of, self.name, self.limit, self.used, self.more = of, name, limit, used, more
        super().__init__(
            f"{of} {name!r} has {used:,} of at most {limit:,} edits, so {more:,} more cannot be added; withdraw "
            "some, or have an administrator raise the quota"
        )


class StoreError(MemeditError):
    """The edit memory's database failed."""


class MemoryNotFoundError(StoreError):
    """There is no edit memory at the address given, and what was asked for needs one; none was made."""

    def __init__(self, url: str) -> None:
        self.url = url
        super().__init__(
            f"there is no edit memory {url}; check the name (--memory, or MEMEDIT_MEMORY), or make one with "
            f"`memedit edit add QUESTION ANSWER --memory {url}`"
        )


class StoreCorruptError(StoreError):
    """The database file is damaged, or is not an edit memory."""


class StoreReadOnlyError(StoreError):
    """The database or its directory cannot be written."""


class StoreFullError(StoreError):
    """The device has no space left; nothing was written."""


class StoreBusyError(StoreError):
    """Another process held the write lock for longer than the timeout."""


class StoreUnavailableError(StoreError):
    """The database server cannot be reached, or went away in the middle of the operation.

    ``uncertain`` is True when it went away while a change was being committed: the change is stored whole or not at
    all, and making it again is safe (an edit that is there already is not added twice).
    """

    def __init__(self, message: str, *, uncertain: bool = False) -> None:
        self.uncertain = uncertain
        super().__init__(message)


class StoreVersionError(StoreError):
    """The database was written by a newer version of memedit."""


class VectorIndexError(MemeditError):
    """The vector index failed."""


class IndexCorruptError(VectorIndexError):
    """An index file is damaged or disagrees with its manifest; rebuild it from the store."""


class ModelError(MemeditError):
    """A language model or sentence encoder failed."""


class ModelNotFoundError(ModelError):
    """No model of this name on disk, in an installed package, or on a reachable hub."""


class UnsupportedModelError(ModelError):
    """The model loads, but the feature asked for cannot work with it."""


class FingerprintMismatchError(ModelError):
    """An artefact was made for another base model, encoder or tokenizer."""


class ServiceError(MemeditError):
    """A memedit server refused a request or failed on it.

    ``status`` is the HTTP status (None when there was no answer), ``code`` and ``param`` what the server says besides,
    ``request_id`` names the request in its log.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
    ) -> None:
        self.status, self.code, self.param, self.request_id = status, code, param, request_id
        super().__init__(message)


class ServiceUnavailableError(ServiceError):
    """The server cannot be reached, or said that it cannot answer now."""


class MissingExtraError(MemeditError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(f"{package} is not installed; install it with: pip install 'memedit[{extra}]'")


def unread(error: Exception) -> str:
    """Say in words why values that were read from a file do not fit: what a field lacks, not Python's name for it."""
    if isinstance(error, KeyError) and error.args:
        return f"the field {error.args[0]!r} is missing"
    if isinstance(error, IndexError):
        return "a list holds too few values"
    if isinstance(error, (TypeError, AttributeError)):
        return f"a field holds another kind of value than it should ({error})"
    return str(error)
