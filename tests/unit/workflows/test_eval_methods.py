"""Methods by name, the baselines' scopes, and forms of one method."""

import pytest

from memedit.adapters import ADAPTERS
from memedit.errors import InputError, UnknownNameError
from memedit.types import EditDraft, Encoding
from memedit.workflows.evaluate.methods import PLAIN, OracleScope, known_methods, parse_methods


def test_the_baselines_always_stand_in_front() -> None:
    assert [m.name for m in parse_methods(["in_context"])] == ["base", "rag", "oracle", "in_context"]
    assert [m.name for m in parse_methods(["in_context"], baselines=False)] == ["base", "in_context"]
    assert [m.name for m in parse_methods(["oracle", "in_context", "in_context"])] == [
        "base", "rag", "oracle", "in_context",
    ]  # fmt: skip


def test_scope_and_adapter_of_methods() -> None:
    methods = {m.name: m for m in parse_methods(["in_context", "oracle:reader", "reader@similarity"], scope="subject")}
    assert (methods["base"].adapter, methods["base"].scope) == (None, None)
    assert (methods["rag"].adapter, methods["rag"].scope) == ("in_context:plain", "nearest")
    assert (methods["in_context"].adapter, methods["in_context"].is_baseline) == ("in_context", False)
    assert (methods["oracle:reader"].adapter, methods["oracle:reader"].scope) == ("reader", "oracle")
    assert methods["in_context"].scope == "subject"
    assert methods["reader@similarity"].scope == "similarity"
    assert [name for name, m in methods.items() if m.shares] == ["rag", "oracle"]
    assert [name for name, m in methods.items() if m.thresholded] == ["in_context", "reader@similarity"]


def test_plain_in_context_editing_is_a_method_of_its_own() -> None:
    found = {m.name: m for m in parse_methods(["in_context:plain@subject"])}["in_context:plain@subject"]
    assert (found.adapter, found.scope, found.is_baseline, found.thresholded) == (PLAIN, "subject", False, True)


def test_methods_that_write_weights() -> None:
    methods = {m.name: m for m in parse_methods(["weights:memit", "hybrid@subject"])}
    alone, hybrid = methods["weights:memit"], methods["hybrid@subject"]
    assert (alone.adapter, alone.scope, alone.weights, alone.is_base) == (None, None, "memit", False)
    assert (hybrid.adapter, hybrid.scope, hybrid.weights, hybrid.is_base) == ("default", "subject", "alphaedit", False)
    assert methods["base"].is_base


@pytest.mark.parametrize(
    ("name", "near"),
    [("in_contxt", "in_context"), ("weights:memmit", "weights:memit"), ("oracle:redaer", "reader"), ("base:x", "base")],
)
def test_an_unknown_method_lists_near_matches(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean .*'{near}'"):
        parse_methods([name])


def test_every_adapter_is_a_method() -> None:
    assert set(ADAPTERS) <= set(known_methods())
    assert [parse_methods([name])[-1].adapter for name in ADAPTERS] == list(ADAPTERS)


def test_elder_comes_in_several_forms() -> None:
    methods = {method.name: method for method in parse_methods(["elder", "elder:both", "elder:published"])}
    assert (methods["elder"].adapter, methods["elder"].scope) == ("elder", "default")
    assert methods["elder:both"].scope == "default"
    assert methods["elder:published"].scope == "nearest", "the paper's deferral decides alone"


def test_no_method_is_an_error() -> None:
    with pytest.raises(InputError, match="no method is named"):
        parse_methods([" "])


def test_the_oracle_fires_the_right_edit_and_no_other() -> None:
    import numpy as np

    edit = object()
    long = "The mayor of " + "a very long and winding " * 20 + "town is"
    scope = OracleScope({"The mayor is": [edit], long: [edit]})  # type: ignore[list-item]

    def ask(text: str) -> int:
        encoding = Encoding(text, np.zeros(2, np.float32), np.zeros((0, 2), np.float32), ())
        return len(scope.decide([encoding], [[]])[0].fired)

    assert [ask("The mayor is"), ask("The mayor"), ask("Who?")] == [1, 0, 0]
    assert ask(long[40:200]) == 1  # long prompts are looked up in parts
    assert EditDraft("a", "b").subject is None
