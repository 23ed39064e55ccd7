"""The client: what goes wrong between panel and worker is told in a sentence, and nothing hangs."""

from __future__ import annotations

import time

import pytest


@pytest.fixture
def fresh(panel):
    """The panel without a worker; the next request starts one."""
    panel.logic.client._kill()
    yield panel
    panel.logic.client._kill()


@pytest.mark.parametrize("version", [1, 99])
def test_a_worker_of_another_version_is_refused(fresh, slicer, monkeypatch, tmp_path, version):
    from MedXAIPanel import scenarios

    from MedXAILib.app import protocol
    from MedXAILib.errors import InputError

    spoken = protocol.VERSION
    monkeypatch.setattr(protocol, "VERSION", version)
    client, volume = fresh.logic.client, scenarios.ball()
    scenarios.chosen(fresh, volume)
    before = scenarios.nodeIDs()
    scenarios.run(fresh, fresh.ui.predictButton)
    said = fresh.ui.predictMessage.text
    assert said.startswith(
        f"The worker speaks version {spoken} of MedXAI's protocol and this panel version {version}: give "
    )
    assert said.count(". ") == 0 and "\n" not in said and "MEDXAI_PYTHON" in said
    assert client.process is None and client.folder is None and not client.busy
    assert scenarios.nodeIDs() == before and fresh.ui.predictButton.enabled
    with pytest.raises(InputError) as caught:
        fresh.logic.predict(volume, "planted-lesion")
    assert str(caught.value) == said
    assert client.answer("methods")["message"] == said, "who asks for something small is told the same"

    monkeypatch.undo()
    assert fresh.logic.predict(volume, "planted-lesion"), "a worker of this version is taken"


def test_what_a_refused_worker_still_answers_is_not_taken(fresh, monkeypatch):
    from MedXAILib.app import protocol

    client, end = fresh.logic.client, fresh.logic.client._kill

    def endLater(told=None):
        time.sleep(2)  # meanwhile it answers
        end(told)

    monkeypatch.setattr(protocol, "VERSION", 99)
    monkeypatch.setattr(client, "_kill", endLater)
    event = client.answer("methods")
    assert event["event"] == "error" and "this panel version 99" in event["message"]


def test_a_worker_from_before_versions_is_refused(fresh):
    client, answers = fresh.logic.client, []
    client.ask("methods", answers.append)
    client._event({"event": "ready", "id": 0, "pid": 0, "versions": {}})
    assert "version 1 " in answers[0]["message"] and client.process is None


def test_a_worker_that_lacks_a_package_says_which_to_whoever_asks(fresh, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "numpy.py").write_text("raise ModuleNotFoundError(\"No module named 'numpy'\")\n")
    answer = fresh.logic.client.answer("methods")
    assert answer["kind"] == "died" and "its Python lacks a package" in answer["message"]
    assert "numpy" in answer["message"] and "\n" not in answer["message"]


def test_the_log_has_the_details_of_what_was_asked_beside_a_run(panel):
    client = panel.logic.client
    event = client.answer("structures", reference="no such volume", map={"file": "none"}, anatomy={"file": "none"})
    assert event["kind"] == "failure" and event["message"].endswith("the log has the details.")
    assert event["message"] in client.log and any(line.startswith("Traceback") for line in client.log)


def test_files_that_were_sent_go_with_the_answer(panel):
    from MedXAIPanel import scenarios

    from MedXAILib.mrml.nodes import volume_of

    client, node = panel.logic.client, scenarios.ball()
    client.store(volume_of(node))
    client.handle(node)
    assert len(list(client.folder.glob("*.nrrd"))) == 2
    client.answer("methods")
    assert not list(client.folder.glob("*.nrrd"))
