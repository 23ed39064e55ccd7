"""The log as a text for others."""

from __future__ import annotations

from pathlib import Path


def test_the_log_tells_versions_and_no_names(explained, computed):
    import platform

    import torch

    explained.panel.logic.client.versions = computed.event["versions"]
    explained.volume.SetName("Miller Anna 1961")
    lines = [
        "Left out: Miller Anna 1961: odd spacing",
        f"read {Path.home()}/scans/Miller Anna 1961.nrrd",
        "worker ready",
    ]
    explained.panel.log.extend(lines)
    text = explained.panel.export.report()
    assert "Miller" not in text and str(Path.home()) not in text and "worker ready" in text
    assert platform.python_version() in text and f"torch {torch.__version__}" in text
    assert "planted-lesion" in text.lower()
