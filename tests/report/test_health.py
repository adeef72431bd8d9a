"""What doctor finds, and what it says where something is wrong."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from vaprompt.report import health
from vaprompt.report.health import Finding, examine, requirements


@pytest.fixture
def torchaudio_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchaudio break at import, as it does beside a torch that it was not built for."""

    def imported(name: str) -> None:
        if name == "torchaudio":
            raise OSError("undefined symbol\n_ZN5torch")

    monkeypatch.setattr(health, "import_module", imported)


def find(subject: str, folder: Path) -> Finding:
    return next(finding for finding in examine(folder) if finding.subject == subject)


def test_a_package_out_of_its_range_is_a_fault_with_the_way_to_mend_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    installed = health.version
    monkeypatch.setattr(health, "version", lambda name: "2.13.0" if name == "torch" else installed(name))
    torch = find("torch", tmp_path)
    assert torch.state == "fault"
    assert "2.13.0" in torch.found
    assert torch.remedy.startswith("pip install 'torch")
    assert "torch 2.13.0" not in find("packages", tmp_path).found


@pytest.mark.usefixtures("torchaudio_broken")
def test_missing_packages_are_faults_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(health, "version", missing)
    faults = {finding.subject for finding in examine(tmp_path) if finding.found.startswith("missing; ")}
    assert faults == {wanted.name for wanted in requirements()}
    assert len(faults) > 10


@pytest.mark.usefixtures("torchaudio_broken")
def test_an_import_that_breaks_is_one_line_and_what_stands_on_it_is_not_looked_at(tmp_path: Path):
    findings = {finding.subject: finding for finding in examine(tmp_path)}
    broken = findings["import torchaudio"]
    assert (broken.state, broken.found) == ("fault", "undefined symbol _ZN5torch")
    assert "make setup" in broken.remedy
    assert not {"imports", "device", "processor", "ffmpeg"} & set(findings)


@pytest.mark.usefixtures("torchaudio_broken")
def test_a_folder_that_is_not_there_yet_is_on_its_parents_disk(tmp_path: Path):
    assert str(tmp_path) in find("disk", tmp_path / "not" / "yet").found


def test_what_may_be_cleared_from_the_cache_is_named_and_what_is_not_pushed_yet_is_not(monkeypatch, tmp_path: Path):
    cache = tmp_path / "my cache"
    monkeypatch.setenv("VAPROMPT_CACHE", str(cache))
    assert "staging" not in find("cache", tmp_path).found
    for name, size in (("stores", 2), ("features", 3), ("staging", 4)):
        (cache / name).mkdir(parents=True)
        with (cache / name / "large").open("wb") as file:
            file.truncate(size * 10**9)
    found = find("cache", tmp_path).found
    assert found.startswith("2.0 GB of remote stores, 3.0 GB of joined features in ")
    assert f"rm -r '{cache}/stores' '{cache}/features' clears them" in found
    assert found.endswith(f"4.0 GB of extractions to URLs in {cache}/staging, perhaps not pushed yet")
