"""EditableModel: a Hugging Face causal LM whose answers follow an edit memory."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from memedit.adapters import Adapter
from memedit.adapters.base import ChatMessages
from memedit.consolidation.loaded import ModelVersion, open_version
from memedit.deprecation import renamed
from memedit.encoders.base import Progress
from memedit.errors import InputError
from memedit.models import load_model, prepare_tokenizer
from memedit.models.chat import chat_layout
from memedit.runtime.answers import Answer, Score
from memedit.runtime.artefacts import Artefacts
from memedit.runtime.calibrated import open_scope
from memedit.runtime.generation import Generator, PlannedBatch
from memedit.runtime.lazy import LazyAdapter, LazyScope
from memedit.runtime.lengths import check_fits
from memedit.runtime.module_proxy import ModuleProxy
from memedit.runtime.passes import warn_of_embeddings
from memedit.runtime.planning import Planner
from memedit.runtime.recheck import Recheck, check_recheck
from memedit.runtime.recheck.answering import Rechecker
from memedit.runtime.routing import Router
from memedit.runtime.rows import Prompt, Prompts, attention_mask, given_ids, tensor_rows
from memedit.runtime.scoring import target_ids
from memedit.runtime.streaming import TextStream
from memedit.runtime.structured import Grammars, as_structure
from memedit.scope import PreparesEdits, Scope
from memedit.types import BatchPlan, ChainPolicy, Route

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from memedit.memory import EditMemory

BATCH = 32
"""Prompts that :meth:`EditableModel.answer` generates at once unless told otherwise."""


class EditableModel(ModuleProxy):
    """A causal LM and an edit memory that speaks up where it has something to say.

    Every row of a batch is looked up first. A batch in which no edit fires goes to the model's own ``generate`` with
    the caller's own arguments. Otherwise the model runs once on the caller's tensors, for the rows without an edit
    (these are the bare model's, bit for bit), and once on the rewritten edited rows, under the adapter. All attributes
    that are not listed here are the model's own (``config``, ``device``, ``generation_config``, ...), so the object
    serves where transformers expects the model, ``pipeline("text-generation")`` included.

    Safe to use from several threads: generation passes are done one at a time. The model's mode (train or eval) is
    left as it is; :meth:`from_pretrained` sets eval.

    Args:
        model: a transformers causal LM; it is never changed.
        tokenizer: its tokenizer; without a padding token it is given its end-of-text token for one.
        memory: the edit memory.
        scope: decides which edits apply: a scope or the registered name of one.
        adapter: makes the model follow them: an adapter or the registered name of one.
        namespace: the memory's namespace to use; None is the memory's own.
        threshold: replaces the scope's own.
        k: vector neighbours looked up for each query.
        version: the version (:func:`memedit.consolidation.open_version`) that the model was loaded as, None for a plain
            model. Edits that its weights answer do not fire; all others in force do, whatever their state. Where the
            version is gated, rows without such an edit run on the frozen base's weights, to the bit.
        chains: look questions up along chains of edits too: "off", "on", or "auto" (under the trained scope alone).
            Where a question's wording has another within, and no edit answers that one, the bare model is asked for it
            in a dozen tokens.
        recheck: look up answers too while they are written: "off", at the end of each "sentence", or after so many
            tokens. Not answers held to a structure, nor ``generate`` with a streamer or a dictionary for a result.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: Any,
        memory: "EditMemory",
        *,
        scope: str | Scope = "default",
        adapter: str | Adapter = "default",
        namespace: str | None = None,
        threshold: float | None = None,
        k: int = 8,
        version: ModelVersion | None = None,
        chains: ChainPolicy = "off",
        recheck: str | int = "off",
    ) -> None:
        self._recheck = check_recheck(recheck)
        self._version, self._warned, self._lock = version, False, threading.RLock()
        self._base, self._tokenizer, self._memory = model, prepare_tokenizer(tokenizer), memory
        self._layout = chat_layout(tokenizer)
        self._scope = LazyScope(partial(_opened, memory, scope, namespace))
        self._adapter = LazyAdapter(adapter, model, self._tokenizer, version=version, lock=self._lock)
        self._artefacts = Artefacts(memory, namespace)
        in_weights = None if version is None else version.edits
        self._router = Router(
            memory, self._scope, namespace=namespace, k=k, threshold=threshold, in_weights=in_weights, chains=chains
        )
        self._generator = Generator(
            model,
            self._tokenizer,
            self._layout,
            adapter=self._adapter,
            artefacts=self._artefacts,
            lock=self._lock,
            version=version,
        )
        self._planner = Planner(self._tokenizer, self._router, self._generator, self._adapter)
        self._rechecker = Rechecker(self._generator, self._adapter, self._tokenizer, self._planner.look)
        self._grammars: Grammars | None = None

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        memory: "EditMemory | str | Path | None" = None,
        scope: str | Scope = "default",
        adapter: str | Adapter = "default",
        namespace: str | None = None,
        threshold: float | None = None,
        chains: ChainPolicy = "off",
        recheck: str | int = "off",
        **hf: Any,
    ) -> Self:
        """Load a model by alias, path or hub id (see :func:`memedit.models.load_model`) and wrap it.

        Args:
            name: the model; the folder of a version of consolidated edits knows which edits are in its weights.
            memory: an ``EditMemory``, the path or URL of one, or None for a new one in this process's memory.
            scope: as for the class; so are ``adapter``, ``namespace``, ``threshold``, ``chains`` and ``recheck``.
            hf: arguments of ``load_model``: dtype, device_map, revision ...
        """
        loaded = load_model(name, **hf)
        return cls.wrap(
            loaded.model,
            loaded.tokenizer,
            memory,
            scope=scope,
            adapter=adapter,
            namespace=namespace,
            threshold=threshold,
            chains=chains,
            recheck=recheck,
            version=open_version(name, loaded.model),
        )

    @classmethod
    def wrap(
        cls,
        model: "PreTrainedModel",
        tokenizer: Any,
        memory: "EditMemory | str | Path | None" = None,
        **options: Any,
    ) -> Self:
        """Wrap a loaded model; ``memory`` as for :meth:`from_pretrained`, ``options`` as for the class."""
        if memory is None or isinstance(memory, str | Path):
            from memedit.memory import EditMemory

            memory = EditMemory(memory if memory is not None else ":memory:")
        return cls(model, tokenizer, memory, **options)

    @property
    def base(self) -> "PreTrainedModel":
        """The bare model."""
        return self._base

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._tokenizer

    @property
    def memory(self) -> "EditMemory":
        """The edit memory."""
        return self._memory

    @property
    def scope(self) -> Scope:
        """The scope, loaded now if it was not yet: by name, at the threshold calibrated in the memory, if any."""
        return self._scope.get()

    @property
    def adapter(self) -> Adapter:
        """The adapter, made now if it was not yet."""
        return self._adapter.get()

    @property
    def version(self) -> ModelVersion | None:
        """The version of consolidated edits that the model was loaded as, None for a plain model."""
        return self._version

    @property
    def generator(self) -> Generator:
        """Runs planned batches; what decodes in steps of its own takes from it what one row needs."""
        return self._generator

    @property
    def context_length(self) -> int | None:
        """The most tokens that the model reads, answer included; None where its config names no limit."""
        return self._generator.base.limit

    @property
    def pad_token_id(self) -> int:
        """The id that it pads with."""
        return self._generator.base.pad

    pad_token = renamed("pad_token", "pad_token_id")
    wanted = renamed("wanted", "generator.target_prior")
    target_prior = renamed("target_prior", "generator.target_prior")
    is_chat = renamed("is_chat", "generator.is_chat")
    asked = renamed("asked", "generator.asked")
    place = renamed("place", "generator.place")
    held = renamed("held", "generator.held")

    @property
    def recheck(self) -> Recheck | None:
        """When answers are looked up while they are written, None for never."""
        return self._recheck

    @property
    def end_tokens(self) -> frozenset[int]:
        """The ids that end an answer: those of the model's generation config, else its tokenizer's."""
        known = self._base.generation_config.eos_token_id
        ends = [known] if isinstance(known, int) else list(known or ())
        own = self._tokenizer.eos_token_id
        return frozenset(ends if ends or own is None else [own])

    @property
    def grammars(self) -> Grammars:
        """Compiles structures for this model's tokens."""
        with self._lock:
            if self._grammars is None:
                width = int(self._base.config.get_text_config().vocab_size)
                self._grammars = Grammars(self._tokenizer, width, self.end_tokens)
            return self._grammars

    def generate(self, inputs: Tensor | None = None, generation_config: Any = None, **options: Any) -> Any:
        """Generate as the model's own ``generate`` does, with its arguments and its kind of result.

        Rows are read back from ``inputs`` or ``input_ids [B, T]``. In the result prompt ids stand as given; what an
        adapter puts before the model is not shown. Lengths, stopping criteria, logits processors, penalties and
        streamers all go by the caller's prompt. On rows with an edit a key-value cache is not used. Calls without
        token ids (``inputs_embeds``, no prompt) are the bare model's; a warning says so once if edits are in force.

        Raises:
            InputError: a prompt does not fit the model's context.
        """
        if generation_config is not None:
            options["generation_config"] = generation_config
        ids = given_ids(inputs, options)
        if options.get("inputs_embeds") is not None and not self._warned and not self._router.nothing_stored():
            self._warned = True
            warn_of_embeddings()
        if ids is not None:
            check_fits(ids.shape[1], self.context_length)
        if ids is None or self._router.nothing_stored():
            return self._generator.bare(inputs, options)
        mask = attention_mask(self._tokenizer, self._base.generation_config, ids, options.get("attention_mask"))
        rows = tensor_rows(self._tokenizer, self._layout, ids, mask)
        batch = PlannedBatch(rows, self._planner.plan(rows), ids, options, inputs)
        found = self._generator.run(batch)
        if self._recheck is None or not isinstance(found, Tensor) or options.get("streamer") is not None:
            return found
        return self._rechecker.sequences(batch, found, self._recheck)

    def answer(
        self,
        prompts: Prompts,
        *,
        batch_size: int = BATCH,
        plan: BatchPlan | None = None,
        structured: Any = None,
        recheck: str | int | None = None,
        chains: ChainPolicy | None = None,
        **options: Any,
    ) -> list[Answer]:
        """Answer texts (continued as they stand) and chats (lists of messages), in order, with provenance.

        Args:
            prompts: one or many.
            batch_size: how many are generated at once.
            plan: what :meth:`plan` returned for these prompts; they are then not looked up again.
            structured: what every answer has to be: a JSON schema (a mapping), a pydantic model, or a
                :class:`~memedit.runtime.structured.Structure`. An edit's target occurs in the value that is about it.
            recheck: in place of the model's own; so is ``chains``.
            options: arguments of ``generate``. With ``num_return_sequences`` n, each prompt has n answers in a row.

        Raises:
            InputError: a prompt is empty, not valid Unicode, or does not fit the model's context.
            StructureError: answers cannot be held to the structure.
        """
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} is below 1")
        rows = self._planner.rows(prompts)
        options = {k: v for k, v in options.items() if k != "return_dict_in_generate"}
        grammar = None if structured is None else self.grammars.compile(as_structure(structured))
        policy = self._policy(recheck) if grammar is None else None
        answers: list[Answer] = []
        for chunk, chunk_plan in self._planner.batches(rows, batch_size, plan, chains):
            batch = self._generator.batch(chunk, chunk_plan, options, grammar)
            found = self._generator.answers(batch)
            answers += found if policy is None else self._rechecker.answers(batch, found, policy)
        return answers

    def chat(self, messages: ChatMessages, **options: Any) -> Answer:
        """Answer one chat; ``options`` are ``structured`` and arguments of ``generate``."""
        return self.answer([messages], **options)[0]

    def stream(
        self, prompt: Prompt, *, structured: Any = None, recheck: str | int | None = None, **options: Any
    ) -> TextStream:
        """Answer one prompt or chat piece by piece; ``route`` of the result tells which edits fired.

        ``structured`` and ``recheck`` are as for :meth:`answer`. Under a re-check pieces come sentence by sentence, or
        after so many tokens: what has come is never taken back.
        """
        grammar = None if structured is None else self.grammars.compile(as_structure(structured))
        row = self._planner.rows([prompt])[0]
        plan = self._planner.plan([row])
        policy = self._policy(recheck) if grammar is None else None

        def generate(streamer: Any, stop: Any) -> Route | None:
            criteria = [*(options.get("stopping_criteria") or ()), stop]
            arguments = {**options, "streamer": streamer, "stopping_criteria": criteria}
            return self._rechecker.stream(self._generator.batch([row], plan, arguments, grammar), policy)

        return TextStream(plan.routes[0], self._tokenizer, generate)

    def explain(self, prompt: Prompt, *, chains: ChainPolicy | None = None) -> Route:
        """Say which edits would fire on a prompt, and why, without generating."""
        return self.plan([prompt], chains=chains).routes[0]

    def plan(self, prompts: Prompts, *, chains: ChainPolicy | None = None) -> BatchPlan:
        """Return what would happen to a batch of prompts, without generating; ``chains`` replaces the model's own.

        Raises:
            InputError: no such policy.
        """
        return self._planner.plan(self._planner.rows(prompts), chains)

    def prepare(self, progress: Progress | None = None) -> int:
        """Store what adapter and scope prepare for each edit in force; return how many edits the adapter prepared.

        Not needed for right answers: what is missing is made when an edit first fires. It saves that time, in every
        process that opens the memory. The in-context adapter and the reader have nothing to prepare.

        Args:
            progress: called with (edits done, edits to do).
        """
        with self._lock:
            if isinstance(self.scope, PreparesEdits):
                self._artefacts.store(self.scope)
            return self._artefacts.store(self.adapter, progress)

    def score(
        self,
        prompts: Prompts,
        targets: Sequence[str],
        *,
        batch_size: int = BATCH,
        plan: BatchPlan | None = None,
        as_is: bool = False,
    ) -> list[Score]:
        """Return log probabilities of targets after prompts, under the same routing as generation.

        Args:
            prompts: one or many.
            targets: one a prompt. Behind a text that ends in a word, a target follows a blank, its own or one put
                there; an answer in a chat begins with its target.
            batch_size: how many are scored at once.
            plan: as for :meth:`answer`.
            as_is: put no blank: the target goes on where the prompt ends.

        Raises:
            InputError: as many targets as prompts are needed, and none may be empty.
        """
        rows = self._planner.rows(prompts)
        if len(rows) != len(targets):
            raise InputError(f"{len(rows)} prompts and {len(targets)} targets: give one target a prompt")
        scores: list[Score] = []
        for chunk, chunk_plan in self._planner.batches(rows, batch_size, plan):
            own = zip(chunk, targets[len(scores) : len(scores) + len(chunk)], strict=True)
            wanted = [target_ids(self._tokenizer, row, target, as_is=as_is) for row, target in own]
            scores += self._generator.scores(chunk, wanted, chunk_plan)
        return scores

    def _policy(self, recheck: str | int | None) -> Recheck | None:
        return self._recheck if recheck is None else check_recheck(recheck)

    def _moved(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Move, cast or switch the model; an adapter made by name is made anew when next used, where it then is."""
        with self._lock:
            method(*args, **kwargs)
            self._adapter.renew()

    def __repr__(self) -> str:
        return f"EditableModel({type(self._base).__name__}, memory={getattr(self._memory, 'url', self._memory)!r})"


def _opened(memory: "EditMemory", scope: str | Scope, namespace: str | None) -> Scope:
    """Return a scope; one by name at the threshold calibrated in the memory, if any."""
    return open_scope(memory, scope, namespace=namespace) if isinstance(scope, str) else scope
