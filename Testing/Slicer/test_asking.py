"""A run as a text to paste."""

from __future__ import annotations

import numpy as np
import pytest


def test_the_run_as_python_makes_the_same_map_again(explained, computed, slicer):
    from MedXAIPanel import results
    from MedXAIPanel.asking import asPython

    from MedXAILib.app.job import Job
    from MedXAILib.mrml.nodes import volume_of

    job = Job(
        task="explain", inputs={}, model="planted-lesion", classes=("lesion",), methods=("lime",), mass_fraction=0.25,
        options=computed.job.options,
    )  # fmt: skip
    text = asPython(job, {"image": explained.volume})
    made: dict = {"slicer": slicer}
    exec(text, made)
    made["logic"].client.stop()
    (again,) = made["nodes"]
    assert np.allclose(volume_of(again).array, volume_of(explained.maps[1]).array, rtol=1e-4, atol=1e-7)
    assert results.metadata(again)["job"]["mass_fraction"] == 0.25


def test_the_run_as_command_names_the_file_or_asks_for_one(explained, computed, slicer):
    from MedXAIPanel.asking import asCommand

    from MedXAILib.errors import InputError

    with pytest.raises(InputError, match="save this volume first"):
        asCommand(computed.job, {"": explained.volume})
    loaded = slicer.util.loadVolume(str(computed.folder / "ball.nrrd"))
    command = asCommand(computed.job, {"": loaded})
    assert command.startswith(f"medxai explain {computed.folder / 'ball.nrrd'} --model planted-lesion")
    assert "--class=lesion" in command and f"--samples={computed.job.options['samples']}" in command
