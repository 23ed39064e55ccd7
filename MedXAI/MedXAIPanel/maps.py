"""The parts of a map node."""

from __future__ import annotations

from MedXAILib.mrml.host import Node

from . import results


def partsOf(node: Node) -> dict[str, Node]:
    """Role -> segmentation of a map's hot regions and superpixels, where it has them."""
    found = {role: node.GetNodeReference(role) for role in (results.REGIONS, results.SUPERPIXELS)}
    return {role: part for role, part in found.items() if part is not None and part.GetDisplayNode()}
