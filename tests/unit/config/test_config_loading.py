"""Settings and configuration files: precedence, every error at once, hints for misspelt keys."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.config import SCHEMAS, EvalConfig, Settings, load_config, load_settings, load_yaml
from memedit.errors import ConfigError

CONFIGS = sorted((Path(__file__).resolve().parents[3] / "configs").rglob("*.yaml"))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("MEMEDIT_") and n != "MEMEDIT_DATA"]:
        monkeypatch.delenv(name)


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_there_are_shipped_configs() -> None:
    assert any(path.name == "default.yaml" for path in CONFIGS)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_every_shipped_config_loads(path: Path) -> None:
    assert isinstance(load_config(path), SCHEMAS[load_yaml(path)["kind"]])


def test_default_yaml_equals_the_defaults() -> None:
    path = next(path for path in CONFIGS if path.name == "default.yaml")
    assert load_settings(path).model_dump() == Settings().model_dump()


def test_arguments_win_over_environment_over_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(
        tmp_path, "kind: settings\nmemory: file.db\nindex: hnsw\nnamespace: file\nmodel: {name: gemma3-270m}\n"
    )
    monkeypatch.setenv("MEMEDIT_MEMORY", "env.db")
    monkeypatch.setenv("MEMEDIT_NAMESPACE", "env")
    monkeypatch.setenv("MEMEDIT_MODEL__DTYPE", "bfloat16")
    settings = load_settings(path, memory="argument.db")
    assert (settings.memory, settings.namespace, settings.index, settings.encoder) == (
        "argument.db",
        "env",
        "hnsw",
        "minilm",
    )
    assert (settings.model.name, settings.model.dtype) == ("gemma3-270m", "bfloat16")


def test_every_problem_is_listed_with_where_and_what(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "kind: settings\nmemroy: a.db\nmodel: {dtype: float64}\n"
        "scope: {threshold: 1.5, candidates: none, treshold: 0.2}\n",
    )
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    text = str(caught.value)
    assert len(caught.value.problems) == 5
    assert str(path) in text
    assert "memroy" in text
    assert "did you mean 'memory'" in text
    assert "scope.treshold" in text
    assert "did you mean 'threshold'" in text
    assert "1.5" in text
    assert "scope.candidates" in text
    assert "float64" in text


def test_a_misspelt_environment_variable_is_reported_beside_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMEDIT_ENCODR", "minilm")
    monkeypatch.setenv("MEMEDIT_SOMETHING_ELSE", "1")
    with pytest.raises(ConfigError, match="MEMEDIT_ENCODER") as caught:
        load_settings(write(tmp_path, "kind: settings\nnamespace: ''\n"))
    assert len(caught.value.problems) == 2


def test_a_bad_nested_environment_variable_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMEDIT_MODEL", "{not json")
    with pytest.raises(ConfigError):
        load_settings()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a\n- b\n", "mapping"),
        ("a: 1\na: 2\n", "given twice"),
        ("a: [1\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("1: 2\n", "mapping of names"),
    ],
)
def test_bad_yaml_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_yaml(write(tmp_path, text))


def test_a_nested_key_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'name' given twice"):
        load_yaml(write(tmp_path, "kind: settings\nmodel:\n  name: a\n  name: b\n"))


def test_unreadable_files_are_config_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_yaml(tmp_path / "latin.yaml")
    (tmp_path / "big.yaml").write_bytes(b"a: " + b"x" * (1 << 20))
    with pytest.raises(ConfigError, match="bytes"):
        load_yaml(tmp_path / "big.yaml")


def test_kind_decides_the_schema(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'scope'"):
        load_config(write(tmp_path, "kind: scop\n"))
    with pytest.raises(ConfigError, match="no top-level 'kind'"):
        load_config(write(tmp_path, "name: x\n"))
    with pytest.raises(ConfigError, match="edits"):
        load_config(write(tmp_path, "kind: eval\nedits: [0]\n"))
    loaded = load_config(write(tmp_path, "kind: eval\nedits: [1000]\nmethods: [in_context, reader]\n"))
    assert isinstance(loaded, EvalConfig)
    assert loaded.methods == ("in_context", "reader")
    with pytest.raises(ConfigError, match="given twice"):
        load_config(write(tmp_path, "kind: eval\nmethods: [reader, reader]\n"))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_text_loads_or_is_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = write(tmp_path_factory.mktemp("yaml"), text)
    with contextlib.suppress(ConfigError):
        assert isinstance(load_config(path), tuple(SCHEMAS.values()))


def test_files_of_parts_are_merged_in_order(tmp_path: Path) -> None:
    texts = {
        "base.yaml": "kind: settings\nmemory: a.db\nmodel: {name: one, dtype: bfloat16}\n",
        "model.yaml": "kind: model\nname: two\n",
        "scope.yaml": "kind: scope\nthreshold: 0.4\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    settings = load_settings([tmp_path / name for name in texts])
    assert (settings.memory, settings.model.name, settings.model.dtype) == ("a.db", "two", "bfloat16")
    assert settings.scope.threshold == 0.4


def test_a_file_of_another_kind_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kind: is 'eval'"):
        load_settings(write(tmp_path, "kind: eval\nedits: [10]\n"))
