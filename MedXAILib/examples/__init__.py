"""Worked examples that come with MedXAI."""
