"""What the site does to pages as it is built: links to files outside docs/ go to the repository."""

import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]+)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point relative links that leave docs/ at the repository that pyproject.toml names."""
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def outside(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return match[1] if path.startswith("docs/") else f"{repository()}/{kind}/main/{path}"

    return LINK.sub(outside, markdown)


def repository() -> str:
    """Return the address of the repository, from pyproject.toml."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    return urls["Homepage"].rstrip("/")
