"""What doctor finds, and what it says where something is wrong."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from vaprompt.report import health


def test_a_package_out_of_its_range_is_a_fault_with_the_way_to_mend_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health, "version", lambda name: "2.13.0" if name == "torch" else "99")
    (torch,) = (finding for finding in health._packages() if finding.subject == "torch")
    assert torch.state == "fault"
    assert "2.13.0" in torch.found
    assert torch.remedy.startswith("pip install 'torch")


def test_a_missing_package_is_a_fault(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(health, "version", missing)
    findings = list(health._packages())
    assert len(findings) == len(health.requirements()) > 10
    assert {finding.state for finding in findings} == {"fault"}


def test_an_import_that_breaks_ends_the_imports_with_one_line(monkeypatch: pytest.MonkeyPatch):
    def broken(name: str) -> None:
        if name == "torchaudio":
            raise OSError("undefined symbol\n_ZN5torch")

    monkeypatch.setattr(health, "import_module", broken)
    findings = list(health._imports())
    assert [finding.subject for finding in findings] == ["import torchaudio"]
    assert findings[0].found == "undefined symbol _ZN5torch"


def test_a_folder_that_is_not_there_yet_is_on_its_parents_disk(tmp_path: Path):
    finding = health._disk(tmp_path / "not" / "yet")
    assert str(tmp_path) in finding.found
