"""One model and one case: its plan, its prediction, its maps; what was computed once is not computed again."""

from .explaining import explain
from .plan import Plan, Step
from .request import Request
from .session import Session

__all__ = ["Plan", "Request", "Session", "Step", "explain"]
