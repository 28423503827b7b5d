"""A conflict scorer that knows two words."""

import numpy as np

from support.hashing_encoder import HashingEncoder


class WordScorer:
    """Knows what matters: 1 when both prompts say 'leads', .6 when one says 'runs'."""

    threshold, doubt = 0.9, 0.5

    def scores(self, pairs, encoder):
        assert isinstance(encoder, HashingEncoder)
        assert all(edit.subject == "Norvik" for pair in pairs for edit in pair)
        return np.array([self._score(*(edit.prompt.lower() for edit in pair)) for pair in pairs], np.float32)

    @staticmethod
    def _score(one: str, other: str) -> float:
        known = [next((word for word in ("leads", "runs") if word in prompt), None) for prompt in (one, other)]
        return 0.0 if None in known else 1.0 if known[0] == known[1] else 0.6
