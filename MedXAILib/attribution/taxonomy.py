"""The field's methods of explanation by family, and what MedXAI does with each.

Families and rows as in Singh, Sengupta and Lakshminarayanan 2020, Explainable deep learning models in medical image
analysis, J. Imaging 6(6):52, arXiv 2005.13799, with the class activation maps and segmentation methods that came since.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .registry import methods

IMPLEMENTED, PLANNED, OUT_OF_SCOPE = "implemented", "planned", "out of scope"


@dataclass(frozen=True)
class Row:
    """:ivar name: of the method in the registry; "" where there is none.
    :ivar why: what it is here, or the reason why it is not.
    """

    family: str
    title: str
    status: str
    name: str = ""
    why: str = ""


PERTURBATION = "attribution by perturbation"
BACKPROPAGATION = "attribution by backpropagation"
ACTIVATION = "attribution by class activation"
SEGMENTATION = "attribution for segmentation"
HYBRID = "hybrid attribution"
OTHER = "not attribution"


def _is(family: str, name: str, title: str = "", why: str = "") -> Row:
    return Row(family, title or methods()[name].title, IMPLEMENTED, name, why)


TAXONOMY = (
    _is(PERTURBATION, "occlusion"),
    _is(PERTURBATION, "lime"),
    _is(PERTURBATION, "shap", "Shapley sampling (Kernel SHAP)"),
    _is(PERTURBATION, "rise"),
    _is(BACKPROPAGATION, "saliency", "Gradient (saliency)"),
    _is(BACKPROPAGATION, "deconvnet"),
    _is(BACKPROPAGATION, "guidedbackprop"),
    _is(BACKPROPAGATION, "lrp", why="the epsilon rule: on networks of ReLU it is gradient x input"),
    _is(BACKPROPAGATION, "gradxinput"),
    _is(BACKPROPAGATION, "ig"),
    _is(BACKPROPAGATION, "smoothgrad"),
    _is(BACKPROPAGATION, "deeplift", why="the Rescale rule"),
    _is(BACKPROPAGATION, "expgrad"),
    Row(
        BACKPROPAGATION,
        "Deep SHAP, Gradient SHAP",
        OUT_OF_SCOPE,
        "",
        "averages of DeepLIFT and of noisy expected gradients over baselines: expgrad and deeplift are the parts",
    ),
    Row(BACKPROPAGATION, "Deep Taylor", OUT_OF_SCOPE, "", "its rules suit networks of ReLU without biases only"),
    _is(ACTIVATION, "cam"),
    _is(ACTIVATION, "gradcam"),
    _is(ACTIVATION, "layerwise"),
    _is(ACTIVATION, "gradcam++"),
    _is(ACTIVATION, "hirescam"),
    _is(ACTIVATION, "layercam"),
    _is(ACTIVATION, "xgradcam"),
    _is(ACTIVATION, "eigencam"),
    _is(ACTIVATION, "scorecam"),
    _is(ACTIVATION, "ablationcam"),
    _is(ACTIVATION, "guidedgradcam"),
    _is(SEGMENTATION, "gradcam", "Seg-Grad-CAM, threshold Grad-CAM", "gradcam with a region, --threshold or --voxel"),
    _is(SEGMENTATION, "hirescam", "Seg-HiRes-Grad-CAM", "hirescam with a region"),
    _is(SEGMENTATION, "segxrescam"),
    Row(HYBRID, "BayLIME, consensus, region of interest", PLANNED, "", "Grad-CAM and LIME together"),
    Row(OTHER, "Attention", OUT_OF_SCOPE, "", "weights of attention are no attribution of the score"),
    Row(OTHER, "Concept vectors (TCAV)", OUT_OF_SCOPE, "", "needs labelled examples of each concept"),
    Row(OTHER, "Expert knowledge", OUT_OF_SCOPE, "", "a matter of the network's design"),
    Row(OTHER, "Similar images, prototypes", OUT_OF_SCOPE, "", "needs the training data at hand"),
    Row(OTHER, "Textual justification", OUT_OF_SCOPE, "", "needs a network that was trained to write"),
    Row(OTHER, "Intrinsic explainability", OUT_OF_SCOPE, "", "a matter of the network's design"),
)


def markdown() -> str:
    """The table of the README."""
    rows = [(row.family, row.title, f"`{row.name}`" if row.name else "", row.status, _about(row)) for row in TAXONOMY]
    head = ["| family | method | `--method` | status | |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def lines() -> list[str]:
    """The same for a terminal: a line for each method below its family."""
    shown: list[str] = []
    for row in TAXONOMY:
        if not any(line == row.family for line in shown):
            shown += ["", row.family] if shown else [row.family]
        shown.append(f"  {row.name or '-':15} {row.title:35} {row.status:12} {_about(row)}".rstrip())
    listed = {row.name for row in TAXONOMY}
    others = [m for name, m in methods().items() if name not in listed]
    shown += ["", "added by other packages"] if others else []
    return shown + [f"  {m.name:15} {m.title:35} {'added':12} {m.reference}".rstrip() for m in others]


def option_lines(known: Iterable[Any]) -> list[str]:
    """The options of each of some methods or measures that has any: name, what it takes, its default, what it is."""
    shown = []
    for m in known:
        if m.options:
            shown.append(f"{m.name}: {m.title}")
        for option in m.options:
            takes = " | ".join(option.choices) or {int: "a whole number", float: "a number", bool: "on"}.get(
                option.kind, "text"
            )
            default = "" if option.default in (None, ()) else f" [{option.default}]"
            shown.append(f"  {option.flag:16} {takes:32}{default} {option.help}")
    return shown


def _about(row: Row) -> str:
    if row.status != IMPLEMENTED:
        return row.why
    m = methods()[row.name]
    return "; ".join(
        part for part in (row.why, f"published randomisation check: {m.randomisation}", m.reference) if part
    )
