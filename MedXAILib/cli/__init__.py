"""``medxai``: the command line. It builds a Job and hands it to :mod:`MedXAILib.app.run`."""

from .main import app, main, run

__all__ = ["app", "main", "run"]
