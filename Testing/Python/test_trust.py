"""Consent to run a program: remembered for the very file, and withdrawn. Nothing here needs torch."""

import json
import sys

import pytest

from MedXAILib.errors import ConsentError
from MedXAILib.models.security import consent as trust
from MedXAILib.models.weights.contents import SCRIPT


def test_consent_is_remembered_by_hash_and_can_be_withdrawn(tmp_path, monkeypatch):
    monkeypatch.setenv(trust.CONFIG, str(tmp_path / "settings"))
    path, one, other = tmp_path / "net.pt", "1" * 64, "2" * 64
    with pytest.raises(ConsentError, match=r"net.pt: this is a TorchScript network.*can run any code.*--trust"):
        trust.consent(path, SCRIPT, one, trust=False)
    trust.consent(path, SCRIPT, one, trust=True)
    trust.consent(path, SCRIPT, one, trust=False)
    assert trust.is_trusted(one) and not trust.is_trusted(other)
    with pytest.raises(ConsentError):
        trust.consent(path, SCRIPT, other, trust=False)
    assert [entry.name for entry in (tmp_path / "settings").iterdir()] == ["trusted.json"]
    trust.forget()
    assert not trust.is_trusted(one)


@pytest.mark.parametrize("content", ["", "{", "{}", "[1", "\udcff"])
def test_spoilt_settings_mean_no_consent(tmp_path, monkeypatch, content):
    monkeypatch.setenv(trust.CONFIG, str(tmp_path))
    (tmp_path / "trusted.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert trust.trusted() == []
    trust.remember("1" * 64)
    assert trust.trusted() == ["1" * 64]


def test_settings_that_cannot_be_written_do_not_stop_the_run(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(trust.CONFIG, str(tmp_path / "file" / "settings"))
    trust.consent(tmp_path / "net.pt", SCRIPT, "1" * 64, trust=True)
    assert trust.trusted() == []


def test_without_the_package_that_knows_the_settings_folder_nothing_is_trusted(tmp_path, monkeypatch):
    monkeypatch.delenv(trust.CONFIG, raising=False)
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    trust.consent(tmp_path / "net.pt", SCRIPT, "1" * 64, trust=True)  # for this time
    assert trust.trusted() == []
    trust.forget()


@pytest.mark.skipif(sys.platform != "linux", reason="where earlier versions kept consents on Linux")
def test_consents_of_earlier_versions_stay(tmp_path, monkeypatch):
    pytest.importorskip("platformdirs")
    monkeypatch.delenv(trust.CONFIG, raising=False)
    (tmp_path / "medxai").mkdir()
    (tmp_path / "medxai" / "trusted.json").write_text(json.dumps(["1" * 64]))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert trust.is_trusted("1" * 64)
