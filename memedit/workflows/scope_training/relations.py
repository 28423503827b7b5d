"""Which wordings ask for the same relation, learnt from the wordings that a data file uses again and again."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from memedit.scope.classifier.views import masked_from
from memedit.workflows.scope_training.rows import EditRow

SLOT = "{}"
_SEEN = 3
"""A wording is a template when it stands in at least this many rows."""


def template_of(text: str, subject: str | None) -> str | None:
    """Return the sentence of ``text`` that names ``subject`` and what follows, with a slot for it; None without it."""
    at = text.rfind(subject) if subject else -1
    if subject is None or at < 0:
        return None
    return masked_from(text, (at, at + len(subject)), SLOT)


class Relations:
    """Templates of prompts in groups of one relation, and which groups each paraphrase template was seen with.

    Two prompt templates are of one relation when a paraphrase of a row with one is itself the other.
    """

    def __init__(self, rows: Sequence[EditRow]) -> None:
        self._parent: dict[str, str] = {}
        pairs = [pair for row in rows for pair in _template_pairs(row)]
        prompts = Counter(template for row in rows if (template := template_of(row.prompt, row.subject)))
        known = {template for template, count in prompts.items() if count >= _SEEN}
        self.prompt_templates = [template for template in prompts if template in known]
        for own, other in pairs:
            if own in known and other in known:
                self._parent[self._root(own)] = self._root(other)
        self._groups: dict[str, set[str]] = defaultdict(set)
        for own, other in pairs:
            self._groups[other].add(self._root(own))
        for template in self.prompt_templates:
            self._groups[template].add(self._root(template))
        counts = Counter(other for _, other in pairs)
        self.templates = [t for t in counts if counts[t] >= _SEEN and t not in known] + self.prompt_templates

    def group(self, row: EditRow) -> str | None:
        """Return the relation of a row's prompt, None when its wording is not a recurring one."""
        template = template_of(row.prompt, row.subject)
        return self._root(template) if template in self._parent else None

    def may_ask(self, template: str | None, group: str | None) -> bool:
        """Say whether a query of this wording may ask for the relation ``group``; True when nothing is known."""
        if template is None or group is None or template not in self._groups:
            return True
        return group in self._groups[template]

    def wordings(self, group: str | None) -> list[str]:
        """Return the prompt templates of a relation."""
        return [template for template in self.prompt_templates if self._root(template) == group]

    def _root(self, template: str) -> str:
        self._parent.setdefault(template, template)
        while self._parent[template] != template:
            template = self._parent[template]
        return template


def _template_pairs(row: EditRow) -> list[tuple[str, str]]:
    own = template_of(row.prompt, row.subject)
    others = [template_of(text, row.subject) for kind, text in row.inside if kind == "paraphrase"]
    return [(own, other) for other in others if own is not None and other is not None]
