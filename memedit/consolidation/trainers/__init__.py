"""Weight changes that are trained by gradients, by name; solvers have a room of their own."""

from memedit.consolidation.trainers.registry import TRAINERS, Trainer, is_trainer

__all__ = ["TRAINERS", "Trainer", "is_trainer"]
