"""Pages and plots from ``templates/``. Every value is escaped; a page holds no script and no outside reference."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def page(template: str, **values: Any) -> str:
    """Return an HTML document: a template of ``templates/``, with ``values`` escaped but for charts."""
    return _environment().get_template(template).render(**values)


def chart(template: str, **values: Any) -> Markup:
    """Return an inline SVG from a template of ``templates/``, with ``values`` escaped; a page takes it as it is."""
    return Markup(_environment().get_template(template).render(**values))


def tick(value: float) -> str:
    """Return a number as it stands on an axis: whole ones with thousands apart, others with three digits."""
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value):,}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "tick": tick,
        "count": lambda number: f"{number:,.0f}",
        "fixed": lambda number, digits: f"{number:.{digits}f}",
        "figure": lambda number: f"{number:.3g}" if 0 < abs(number) < 1 else f"{number:,.1f}",
        "at": lambda place: f"{place:.1f}",
    }
    return found
