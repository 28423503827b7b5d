"""Typed settings, YAML loading, and one validator that reports every error at once."""

from memedit.config.loading import SCHEMAS, load_config, load_settings, load_yaml, validate
from memedit.config.schemas import AdapterConfig, ConsolidationConfig, EvalConfig, ModelConfig, ScopeConfig, Section
from memedit.config.settings import Settings

__all__ = [
    "SCHEMAS",
    "AdapterConfig",
    "ConsolidationConfig",
    "EvalConfig",
    "ModelConfig",
    "ScopeConfig",
    "Section",
    "Settings",
    "load_config",
    "load_settings",
    "load_yaml",
    "validate",
]
