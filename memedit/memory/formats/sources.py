"""A file to text: packed or not, in whatever encoding spreadsheets and editors write."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from memedit.errors import DatasetError, MissingExtraError

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_PART = 1 << 20
_FED = 1 << 10
"""Bytes of a Zstandard file unpacked at once: they may come to 32 MiB."""
_ALWAYS_FINE = 64 << 20
_MOST_PACKED = 200
"""How many times its size a packed file may unpack to; texts of edits come to 5 to 30."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PACKED = frozenset({".gz", ".zst"})


def file_kind(path: Path) -> str:
    """Return how a file's name ends, in lower case, without the end that says how it is packed."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_bytes(path: Path) -> bytes:
    """Return what a file holds, unpacked when it is gzip or Zstandard, whatever it is called.

    Raises:
        DatasetError: it cannot be read, is damaged, or unpacks to far more than texts do.
        MissingExtraError: it is Zstandard and the package for it is not installed.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror or error}", path=str(path)) from error
    if raw.startswith(_GZIP):
        return _joined(_gzip_parts(raw), len(raw), path)
    if raw.startswith(_ZSTD):
        return _joined(_zstd_parts(raw), len(raw), path)
    return raw


def _joined(parts: Iterator[bytes], size: int, path: Path) -> bytes:
    most, kept, total = max(_ALWAYS_FINE, _MOST_PACKED * size), [], 0
    try:
        for part in parts:
            kept.append(part)
            total += len(part)
            if total > most:
                break
    except _DamagedError as error:
        raise DatasetError(f"cannot be unpacked, it is damaged or was cut: {error}", path=str(path)) from error
    if total > most:
        message = f"unpacks to more than {most:,} bytes; if it is a file of edits all the same, unpack it first"
        raise DatasetError(message, path=str(path))
    return b"".join(kept)


class _DamagedError(Exception):
    """What is packed cannot be unpacked."""


def _gzip_parts(raw: bytes) -> Iterator[bytes]:
    try:
        with gzip.open(io.BytesIO(raw)) as file:
            while part := file.read(_PART):
                yield part
    except (OSError, EOFError, zlib.error) as error:
        raise _DamagedError(str(error)) from error


def _zstd_parts(raw: bytes) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError("zstandard", "zstd") from error
    while raw:
        frame, fed = zstandard.ZstdDecompressor().decompressobj(), 0
        try:
            while not frame.eof and fed < len(raw):
                yield frame.decompress(raw[fed : fed + _FED])
                fed += _FED
        except zstandard.ZstdError as error:
            raise _DamagedError(str(error)) from error
        if not frame.eof:
            raise _DamagedError("the last frame has no end")
        raw = frame.unused_data + raw[fed:]


def decode(raw: bytes, path: Path, encoding: str | None, *, guess: bool) -> tuple[str, str | None]:
    """Return the text of a file and, where its encoding was guessed, the name of what was guessed.

    Args:
        raw: what the file holds.
        path: for messages.
        encoding: its encoding; None goes by a byte order mark, then UTF-8.
        guess: whether to guess where it is not UTF-8 either. Wrong guesses change letters, so a caller must show it.

    Raises:
        DatasetError: it is not of this encoding; names the line. Or there is no such encoding.
    """
    name = encoding or next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8-sig")
    try:
        return raw.decode(name).removeprefix("\ufeff"), None
    except LookupError:
        raise DatasetError(f"encoding {name!r} is not known; utf-8, cp1252 and utf-16 are", path=str(path)) from None
    except UnicodeDecodeError as error:
        if guess and encoding is None and (found := _guessed(raw)):
            return raw.decode(found), found
        shown = {"utf-8-sig": "UTF-8"}.get(name, name)
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"is not {shown}: byte {raw[error.start]:#04x}; give the encoding it has (--encoding)"
        raise DatasetError(message, path=str(path), line=line) from error


def _guessed(raw: bytes) -> str | None:
    """Return the encoding that the text makes most sense in, None when it makes none in any."""
    from charset_normalizer import from_bytes

    best = from_bytes(raw).best()
    if best is None:
        return None
    western = best.encoding in ("latin_1", "cp1250", "cp1252", "iso8859_15", "mac_roman", "cp1254", "cp1257", "cp1258")
    return "cp1252" if western and _reads(raw, "cp1252") else str(best.encoding)


def _reads(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
