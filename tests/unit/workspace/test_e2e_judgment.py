"""What `make e2e` makes of a machine, a study and a front."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from e2e import given, needs, results, scenario
from e2e.needs import Machine
from e2e.tools import Failed

ABLE = Machine("Linux", "x86_64", True, True, True, True, (), 100.0, 20.0, "ext4")
NUMBER = {"value": 1.0, "low": 1.0, "high": 1.0}


def _trial(state: str = "Complete", **more: Any) -> dict[str, Any]:
    pools = {
        device: {"environment": {"architecture": architecture}}
        for device, architecture in (("amd64", "x86_64"), ("arm64-emulated", "aarch64"))
    }
    metrics = dict.fromkeys(("latency/amd64", "peakMemory/amd64", "peakMemory/arm64-emulated"), NUMBER)
    status = {"state": state, "pools": pools, "metrics": metrics, **more}
    return {"metadata": {"name": "digits-0001"}, "status": status}


def _front() -> results.Front:
    members = [{"trial": 1, "artifact": {"sha256": "aa", "bytes": 10}, "settings": {}, "metrics": {}}]
    counts = {"complete": 2, "infeasible": 0, "pruned": 0, "failed": 0, "duplicate": 3}
    return results.Front(
        "1",
        "r",
        {"front": members, "counts": counts, "objectives": [{"metric": "accuracy"}]},
        [{"version": "1", "sha256": "aa"}],
        {"knee": "1", "best-accuracy": "1", "best-downloadSize": "1"},
        2,
    )


def _study(**conditions: tuple[str, str]) -> dict[str, Any]:
    return {
        "status": {"conditions": [{"type": k, "status": s, "reason": r} for k, (s, r) in conditions.items()]}
    }


def test_a_machine_with_everything_has_no_fault() -> None:
    assert needs.faults(ABLE) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"system": "Darwin"}, "Linux on x86_64"),
        ({"architecture": "aarch64"}, "aarch64"),
        ({"root": False}, "sudo"),
        ({"go": False}, "go.dev"),
        ({"namespaces": False}, "unshare"),
        ({"apt": False, "packages": ("runc",)}, "runc"),
        ({"free_gb": 3.0}, "20 GB"),
        ({"filesystem": "overlay"}, "overlay"),
    ],
)
def test_what_a_machine_lacks_is_named(change: dict[str, Any], word: str) -> None:
    (fault,) = needs.faults(replace(ABLE, **change))
    assert word in fault


def test_packages_that_apt_can_install_are_no_fault() -> None:
    assert needs.faults(replace(ABLE, packages=("buildah",))) == []


def test_a_program_with_an_interpreter_is_not_static(tmp_path: Path) -> None:
    def program(kind: int) -> Path:
        head = bytearray(64 + 56)
        head[:6] = b"\x7fELF\x02\x01"
        head[32:40] = (64).to_bytes(8, "little")
        head[54:56], head[56:58] = (56).to_bytes(2, "little"), (1).to_bytes(2, "little")
        head[64:68] = kind.to_bytes(4, "little")
        file = tmp_path / f"program-{kind}"
        file.write_bytes(head)
        return file

    assert needs.is_static(program(1))
    assert not needs.is_static(program(3))
    text = tmp_path / "script"
    text.write_text("#!/bin/sh\n")
    assert not needs.is_static(text)


def test_the_version_of_an_emulator_is_read_from_what_it_says(tmp_path: Path) -> None:
    program = tmp_path / "qemu-aarch64"
    program.write_text("#!/bin/sh\necho 'qemu-aarch64 version 10.0.2 (Debian 1:10.0.2+ds-2~bpo12+1)'\n")
    program.chmod(0o755)
    assert needs.emulator_version(program) >= needs.QEMU_OLDEST
    program.write_text("#!/bin/sh\necho 'qemu-aarch64 version 7.2.15'\n")
    assert needs.emulator_version(program) < needs.QEMU_OLDEST


def test_images_are_loaded_into_kind_and_k3d_and_pushed_for_others() -> None:
    assert given.loader("kind-a-b")[-2:] == ["--name", "a-b"]
    assert given.loader("k3d-dev")[0] == "k3d"
    with pytest.raises(Failed, match="--registry"):
        given.loader("gke_project")


def test_a_study_is_done_when_its_front_is_published_and_tracked() -> None:
    yes = ("True", "X")
    assert not scenario.is_done({})
    assert not scenario.is_done(
        _study(Ready=yes, Complete=yes, Published=("False", "Publishing"), Tracked=yes)
    )
    assert scenario.is_done(_study(Ready=yes, Complete=yes, Published=yes, Tracked=yes))


@pytest.mark.parametrize(
    "bad", [{"Ready": ("False", "ClaimNotFound")}, {"Failed": ("True", "BaselineFailed")}]
)
def test_a_study_that_cannot_succeed_ends_the_run_with_its_reason(bad: dict[str, tuple[str, str]]) -> None:
    with pytest.raises(Failed, match=next(iter(bad.values()))[1]):
        scenario.is_done(_study(**bad))


def test_a_trial_measured_on_both_devices_has_no_fault() -> None:
    assert scenario.trial_faults([_trial(), _trial("Infeasible", pools={})], arm64=True) == []


def test_a_trial_that_failed_or_did_not_end_is_named() -> None:
    assert "no end" in scenario.trial_faults([_trial("Queued")], arm64=True)[0]
    (fault,) = scenario.trial_faults([_trial("Failed", reason="Crashed", message="signal 11")], arm64=True)
    assert "Crashed: signal 11" in fault


def test_a_measurement_of_another_architecture_is_found() -> None:
    trial = _trial()
    trial["status"]["pools"]["arm64-emulated"]["environment"]["architecture"] = "x86_64"
    assert "ran on x86_64" in scenario.trial_faults([trial], arm64=True)[0]
    del trial["status"]["pools"]["arm64-emulated"]
    assert "not measured on arm64-emulated" in scenario.trial_faults([trial], arm64=True)[0]
    assert scenario.trial_faults([trial], arm64=False) == []


def test_without_arm64_the_study_has_one_device_and_no_objective_on_the_other() -> None:
    spec = scenario.study(scenario.Setting({"operator": "x:1"}))["spec"]
    assert [device["name"] for device in spec["devices"]] == ["amd64"]
    assert {objective.get("device") for objective in spec["objectives"]} == {None, "amd64"}


def test_no_time_of_an_emulated_device_is_an_objective() -> None:
    spec = scenario.study(scenario.Setting({"benchmark-arm64": "x:1"}))["spec"]
    assert {o["metric"] for o in spec["objectives"] if o.get("device") == "arm64-emulated"} == {"peakMemory"}


def test_a_pool_says_that_it_is_emulated_and_a_real_one_does_not() -> None:
    images = {"benchmark-arm64": "x:1"}
    emulated = scenario.emulated_pool(scenario.Setting(images))
    assert "qemu" in emulated["metadata"]["annotations"]["kubernetes.io/description"]
    real = scenario.emulated_pool(scenario.Setting(images, arm64_nodes=True))
    assert "annotations" not in real["metadata"]
    assert real["spec"]["nodeSelector"] == {"kubernetes.io/arch": "arm64"}


def test_a_front_that_agrees_with_its_registry_has_no_fault() -> None:
    assert results.faults(_front(), 2) == []


def test_what_does_not_agree_in_mlflow_is_found() -> None:
    front = _front()
    assert "2 runs" in results.faults(front, 3)[0]
    other = replace(front, versions=[{"version": "1", "sha256": "bb"}])
    assert "not the front's" in results.faults(other, 2)[0]
    assert "no alias knee" in results.faults(replace(front, aliases={}), 2)[0]
    empty = copy.deepcopy(dict(front.document)) | {"front": []}
    assert "empty front" in results.faults(replace(front, document=empty, versions=[]), 2)[0]
