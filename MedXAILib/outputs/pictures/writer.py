"""The writer of small pictures: one of each map, of which the contact sheets of many cases are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..part import PartFolder

if TYPE_CHECKING:
    from ...findings.said import CaseResult


class PicturesWriter:
    """Slices through the peak of each map, as PNG."""

    name = "pictures"
    about = "a small picture of each map, and contact sheets of many cases"

    def prediction(self, result: CaseResult, folder: PartFolder) -> None:
        """See :class:`..writer.Writer`."""

    def maps(self, result: CaseResult, folder: PartFolder) -> None:
        """See :class:`..writer.Writer`."""
        from .png import replace_png
        from .thumbnail import thumbnail

        for finding in result.findings:
            a = finding.attribution
            path = folder.target(a.target, a.method, a.layer, "picture", extension="png")
            replace_png(thumbnail(finding), path, f"{result.said.model} · {result.name} · {finding.title}")
