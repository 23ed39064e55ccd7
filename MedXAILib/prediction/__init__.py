"""What a network says of one case: class probabilities by slice and for the whole, or Labels on the input's own grid."""

from .classification import Classification
from .predicting import lay_out, predict
from .prediction import Prediction, feed
from .segmentation import Segmentation, best_class

__all__ = ["Classification", "Prediction", "Segmentation", "best_class", "feed", "lay_out", "predict"]
