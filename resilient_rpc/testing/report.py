"""What a check of rules gives back, and how its user leaves some of them out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.spelling import choice


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found to hold, and what was to be left out."""

    holds: Mapping[str, str]
    """The rules: what each says, by its name."""
    left_out: Mapping[str, str]
    """The reasons, by the names of the rules."""

    def of(self, subject: str) -> str:
        """The lines that tell it of what was checked."""
        lines = [f"{subject} keeps {len(self.holds)} rules:"]
        lines += [f"  {name}: {says}" for name, says in self.holds.items()]
        lines += [f"  {name}: left out, for {reason}" for name, reason in self.left_out.items()]
        return "\n".join(lines)


class Says(Protocol):
    """A rule."""

    @property
    def name(self) -> str:
        """By which it is left out."""

    @property
    def says(self) -> str:
        """What it asks for."""


def said(rules: Iterable[Says], left_out: Mapping[str, str]) -> dict[str, str]:
    """`Report.holds`, once all that were not left out hold."""
    return {rule.name: rule.says for rule in rules if rule.name not in left_out}


def check_left_out(rules: Iterable[Says], left_out: Mapping[str, str]) -> None:
    """ConfigurationError unless each name is that of a rule, and has a reason."""
    names = [rule.name for rule in rules]
    for name, reason in left_out.items():
        if name not in names:
            raise ConfigurationError(f"except_for: there is no rule {name!r}; {choice(name, names)}")
        if not str(reason).strip():
            raise ConfigurationError(f"except_for[{name!r}]: say why, in a text, not {reason!r}")
