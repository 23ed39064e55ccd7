"""Numbers of the stages that a result passes through.

Each is raised by one when its stage gives other values: what was computed before is then computed anew. Methods have a number of
their own (:class:`MedXAILib.attribution.method.Method`). A test holds frozen values against both.
"""

from __future__ import annotations

PREDICTION = {"reading": 1, "preprocessing": 1, "tiling": 1, "prediction": 1}
"""What every prediction depends on."""
MAP = {"placement": 1, "superpixels": 1, "fills": 1}
"""What a map depends on besides: where a layer's cells lie, the features of LIME and its kin, what stands where something is hidden."""
DERIVED = {"regions": 1, "anatomy": 1}
"""What is made of a map without the network."""
