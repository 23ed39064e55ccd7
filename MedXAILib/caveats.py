"""What limits belief in a result: a code for programs, a sentence for people, the figures that it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

NOTE, CAUTION, UNRELIABLE = "note", "caution", "unreliable"
"""How much a caveat weighs: how the result is to be read; a reason to doubt it; a reason not to interpret it."""
SEVERITIES = (NOTE, CAUTION, UNRELIABLE)


@dataclass(frozen=True)
class Caveat:
    """One limit of one result.

    :ivar code: short and lasting, for those who filter or count: ``place-not-confirmed``.
    :ivar text: the sentence.
    :ivar severity: one of :data:`SEVERITIES`.
    :ivar figures: the numbers of the sentence by name, as plain values.
    """

    code: str
    text: str
    severity: str = NOTE
    figures: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity {self.severity!r}: choose one of {', '.join(SEVERITIES)}")

    def __str__(self) -> str:
        return self.text

    def about(self, what: str) -> Caveat:
        """The same of a part: ``Slice 3: ...``."""
        return replace(self, text=f"{what}{self.text}")

    def as_value(self) -> dict[str, Any]:
        """As it is written down."""
        found: dict[str, Any] = {"code": self.code, "severity": self.severity, "text": self.text}
        return found | ({"figures": dict(self.figures)} if self.figures else {})

    @classmethod
    def from_value(cls, value: Mapping[str, Any] | str) -> Caveat:
        """Of what was written down; an older file has the sentence alone, or no severity."""
        if isinstance(value, str):
            return cls("", value)
        return cls(value["code"], value["text"], value.get("severity", NOTE), value.get("figures", {}))


def as_values(caveats: Iterable[Caveat]) -> list[dict[str, Any]]:
    """As they are written down."""
    return [caveat.as_value() for caveat in caveats]


def texts(caveats: Iterable[Caveat]) -> list[str]:
    """The sentences alone."""
    return [caveat.text for caveat in caveats]
