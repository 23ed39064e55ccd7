"""MedXAI: see why a neural network said so, on medical volumes. Research use only, not for clinical use.

>>> from MedXAILib import explain, load_model, read_volume
>>> model, volume = load_model("planted-lesion"), read_volume("head.nii.gz")
>>> attribution, = explain(model, volume)
>>> attribution.on(volume).array          # (k, j, i), float32, raw
"""

from __future__ import annotations

from importlib import import_module

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
}
__all__ = list(_PUBLIC)  # noqa: PLE0604


def __getattr__(name: str):
    """The public names, imported when asked for: ``import MedXAILib`` itself stays light."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'MedXAILib' has no attribute '{name}'")
    return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
