"""Decision rules, one per file. A rule combines the predictions of all heads into one prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgap_cli.config import RULES
from mgap_cli.plugins import load_class

if TYPE_CHECKING:
    from mgap_cli.evaluation.decision_rules.base import DecisionRule

DEFAULT = "fused"
AUTO = "auto"


def load_rule(name: str) -> type[DecisionRule]:
    """Return the rule called `name`, or the class that `path/to/file.py:Name` names.

    Raises UsageError for an unknown name, and for a file or class that cannot be loaded.
    """
    from mgap_cli.evaluation.decision_rules.base import DecisionRule

    return load_class(RULES, name, DecisionRule, "decision rule")


def listed_rules() -> list[type[DecisionRule]]:
    """Return the built-in rules without `auto`: fused, then the others that learn nothing, then the rest."""
    rules = [load_rule(name) for name in RULES.names() if name != AUTO]
    return sorted(rules, key=lambda rule: (rule.name != DEFAULT, rule.learns, rule.name))
