import json

import pytest
import typer

from vsr.cli.doctor import doctor as doctor_command
from vsr.pipeline import doctor
from vsr.pipeline.doctor import run_checks


def test_every_finding_that_is_not_good_says_what_to_do(tmp_path):
    findings = list(run_checks(tmp_path))
    subjects = {finding.subject for finding in findings}
    assert {
        "versions",
        "CPU",
        "CPU precision",
        "encoder libx264",
        "memory",
        "disk for results",
    } <= subjects
    assert all(bool(finding.advice) == (finding.state != "good") for finding in findings)


def test_a_folder_that_is_not_there_is_bad_and_the_exit_code_says_so(tmp_path):
    with pytest.raises(typer.Exit) as left:
        doctor_command(tmp_path / "missing", str(tmp_path / "doctor.json"))
    assert left.value.exit_code == 5
    found = {each["subject"]: each for each in json.loads((tmp_path / "doctor.json").read_text())}
    assert found["disk for results"]["state"] == "bad"
    assert found["disk for temporary files"]["state"] != "bad"


def test_an_encoder_that_this_build_lacks_is_found_out_by_trying(monkeypatch):
    monkeypatch.setitem(doctor.ENCODERS, "libnothing", doctor.ENCODERS["libx264"])
    found = {finding.subject: finding for finding in doctor._encoders()}
    assert found["encoder libx264"].state == "good"
    assert found["encoder libnothing"].state == "fair"
    assert found["encoder libnothing"].advice == "leave out -c libnothing"


def test_what_was_not_tried_is_not_called_good(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = {finding.subject: finding for finding in doctor._encoders()}
    for codec in ("h264_nvenc", "hevc_nvenc", "av1_nvenc"):
        assert (found[f"encoder {codec}"].state, found["encoder libx264"].state) == (
            "untried",
            "good",
        )
