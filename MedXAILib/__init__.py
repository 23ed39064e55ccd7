"""MedXAI: see why a neural network said so, on medical volumes. Research use only, not for clinical use.

>>> from MedXAILib import explain, load_model, read_volume
>>> model, volume = load_model("planted-lesion"), read_volume("head.nii.gz")
>>> attribution, = explain(model, volume)
>>> attribution.on(volume).array          # (k, j, i), float32, raw
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the table below, for editors and type checkers
    from .app.cohort import run_cohort as run_cohort
    from .attribution.attribution import Attribution as Attribution
    from .caveats import Caveat as Caveat
    from .errors import InputError as InputError
    from .findings.anatomy import anatomy_fractions as anatomy_fractions
    from .findings.finding import Finding as Finding
    from .findings.finding import find as find
    from .findings.regions import hot_regions as hot_regions
    from .geometry.grid import Grid as Grid
    from .geometry.labels import Label as Label
    from .geometry.labels import Labels as Labels
    from .geometry.resample import resample as resample
    from .geometry.volume import Volume as Volume
    from .io.segmentation import read_labels as read_labels
    from .io.write import write_labels as write_labels
    from .io.write import write_volume as write_volume
    from .models.card import ModelCard as ModelCard
    from .models.card import read_card as read_card
    from .models.loading import Model as Model
    from .models.loading import load_model as load_model
    from .outputs.earlier import read_volume as read_volume
    from .prediction import Prediction as Prediction
    from .prediction import predict as predict
    from .preprocessing.prepare import prepare as prepare
    from .recording.record import record as record
    from .scoring import ClassTarget as ClassTarget
    from .scoring import ComponentTarget as ComponentTarget
    from .scoring import DifferenceTarget as DifferenceTarget
    from .scoring import FunctionTarget as FunctionTarget
    from .scoring import MaskTarget as MaskTarget
    from .scoring import RegionTarget as RegionTarget
    from .scoring import Scorer as Scorer
    from .scoring import VoxelTarget as VoxelTarget
    from .session import Request as Request
    from .session import Session as Session
    from .session import explain as explain

__version__ = "0.1.0"
NOTICE = "Research use only, not for clinical use"

_PUBLIC = {
    "InputError": "errors",
    "Caveat": "caveats",
    "Grid": "geometry.grid",
    "Volume": "geometry.volume",
    "Label": "geometry.labels",
    "Labels": "geometry.labels",
    "resample": "geometry.resample",
    "read_volume": "outputs.earlier",
    "read_labels": "io.segmentation",
    "write_volume": "io.write",
    "write_labels": "io.write",
    "ModelCard": "models.card",
    "read_card": "models.card",
    "Model": "models.loading",
    "load_model": "models.loading",
    "prepare": "preprocessing.prepare",
    "Prediction": "prediction",
    "predict": "prediction",
    "ClassTarget": "scoring",
    "ComponentTarget": "scoring",
    "DifferenceTarget": "scoring",
    "FunctionTarget": "scoring",
    "MaskTarget": "scoring",
    "RegionTarget": "scoring",
    "VoxelTarget": "scoring",
    "Scorer": "scoring",
    "Session": "session",
    "Request": "session",
    "explain": "session",
    "Attribution": "attribution.attribution",
    "record": "recording.record",
    "Finding": "findings.finding",
    "find": "findings.finding",
    "hot_regions": "findings.regions",
    "anatomy_fractions": "findings.anatomy",
    "run_cohort": "app.cohort",
}
__all__ = list(_PUBLIC)  # noqa: PLE0604


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


def __getattr__(name: str) -> Any:
    """The public names, imported when asked for: ``import MedXAILib`` itself stays light."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'MedXAILib' has no attribute '{name}'")
    return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
