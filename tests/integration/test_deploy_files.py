"""The files of examples/deploy: checked by the tools of their kind, and against the command that they run."""

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from memedit.cli.main import app
from memedit.config import Settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "deploy"
DOCKERFILE = (FOLDER / "Dockerfile").read_text("utf-8")
UNITS = sorted(FOLDER.glob("memedit*.service")) + sorted(FOLDER.glob("memedit*.timer"))


def containers() -> dict[str, Any]:
    documents = list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text("utf-8")))
    found = {}
    for document in documents:
        spec = document.get("spec", {})
        pod = (spec.get("jobTemplate", {}).get("spec", spec)).get("template", {}).get("spec")
        if pod:
            found[document["kind"]] = (pod, pod["containers"][0])
    return found


def command_lines() -> dict[str, list[str]]:
    """Every memedit command in the files, by where it stands."""
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))
    image = re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert image is not None
    lines = {"Dockerfile": yaml.safe_load(image[1]), "compose.yaml": compose["services"]["memedit"]["command"]}
    for unit in UNITS:
        for line in re.findall(r"^ExecStart=\S+/memedit (.*)$", unit.read_text("utf-8"), re.MULTILINE):
            lines[unit.name] = shlex.split(line)
    return lines | {f"kubernetes.yaml {kind}": found["args"] for kind, (_, found) in containers().items()}


@pytest.mark.parametrize("where", sorted(command_lines()))
def test_every_command_is_one_that_memedit_understands(where: str) -> None:
    name, *words = map(str, command_lines()[where])
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    with command.make_context(name, words, resilient_parsing=False) as context:
        assert context.params
    assert len(command_lines()) == 6


def test_settings_that_are_given_by_the_environment_exist() -> None:
    text = DOCKERFILE + "".join(path.read_text("utf-8") for path in [*UNITS, *FOLDER.glob("*.yaml")])
    names = {name.removeprefix("MEMEDIT_").lower().split("__")[0] for name in re.findall(r"\bMEMEDIT_[A-Z_]+", text)}
    assert names <= set(Settings.model_fields)
    assert {"memory", "home"} <= names


def test_whoever_stops_a_server_waits_for_the_answers_under_way() -> None:
    """``--drain`` is 30 s: docker, systemd and Kubernetes must wait for longer before they kill."""
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))
    assert compose["services"]["memedit"]["stop_grace_period"] == "45s"
    assert "TimeoutStopSec=45" in (FOLDER / "memedit.service").read_text("utf-8")
    pod, server = containers()["Deployment"]
    pause = int(server["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause + int(server["args"][server["args"].index("--drain") + 1])


def test_nothing_runs_with_rights_it_does_not_need() -> None:
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]
    for pod, container in containers().values():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == 10001
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip


def test_volumes_are_mounted_where_the_commands_look() -> None:
    for pod, container in containers().values():
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        paths = [word for word in container["args"] if word.startswith("/")]
        assert all(any(path.startswith(mount) for mount in mounts) for path in paths)


def test_the_dockerfile_is_well_made() -> None:
    hadolint = shutil.which("hadolint") or str(Path(sys.executable).with_name("hadolint"))
    if not Path(hadolint).exists():
        pytest.skip("hadolint is not installed; it is among the dev extra's packages")
    found = subprocess.run([hadolint, str(FOLDER / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_what_the_dockerfile_copies_is_there_and_is_not_left_out_of_the_context() -> None:
    kept = {
        line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"
    }
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()
    }
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


def test_the_kubernetes_objects_fit_their_schemas() -> None:
    if importlib.util.find_spec("kubernetes_validate") is None:
        pytest.skip("kubernetes-validate is not installed; it is among the dev extra's packages")
    import kubernetes_validate

    for document in yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text("utf-8")):
        kubernetes_validate.validate(document, "1.33", strict=True)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_units_are_understood_by_systemd(tmp_path: Path) -> None:
    for unit in UNITS:
        text = unit.read_text("utf-8").replace("/opt/memedit/bin/memedit", sys.executable)
        (tmp_path / unit.name).write_text(text)
    found = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in UNITS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")


def test_the_page_names_every_file() -> None:
    page = (ROOT / "docs" / "how-to" / "deploy.md").read_text("utf-8")
    for path in FOLDER.iterdir():
        if path.suffix not in (".dockerignore", ".py"):
            assert path.name in page, path.name
