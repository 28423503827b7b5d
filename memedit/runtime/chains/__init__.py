"""Chained look-up: questions that run through several stored edits, one's target being the next one's subject."""

from memedit.runtime.chains.first_hop import BaseSays
from memedit.runtime.chains.lookup import ChainLookup, check_chains

__all__ = ["BaseSays", "ChainLookup", "check_chains"]
