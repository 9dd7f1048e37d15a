"""What this machine can do at once, and which pools it can be."""

import pytest
from paretune.local.capacity import WORKER_MEMORY, capacity
from paretune.local.pools import PoolNotHere, drop_devices, local_pools
from support.simulated import simulated_study

GIB = 2**30


def test_parallelism_is_held_to_cores_and_says_so() -> None:
    held, notices = capacity(4, {"cpu": 1}, cores=2, memory=64 * GIB)
    assert held.parallelism == 2
    assert "parallelism 4 is held to 2" in notices[0]
    assert "2 cores" in notices[0]


def test_parallelism_is_held_to_memory_and_says_so() -> None:
    held, notices = capacity(4, {"cpu": 1}, cores=16, memory=2 * WORKER_MEMORY)
    assert held.parallelism == 2
    assert "GiB of free memory" in notices[0]


def test_what_fits_is_left_as_it_is() -> None:
    held, notices = capacity(2, {"cpu": 1}, cores=8, memory=64 * GIB)
    assert (held.parallelism, held.compress_cores, notices) == (2, 4, ())


def test_there_is_always_room_for_one() -> None:
    assert capacity(4, {"cpu": 1}, cores=1, memory=GIB // 2)[0].parallelism == 1


DEVICES = [
    {"name": "here", "runtime": "litert"},
    {"name": "pi", "pool": "raspberry-pi-4"},
]
OBJECTIVES = [
    {"metric": "accuracy"},
    {"metric": "latency", "device": "here"},
    {"metric": "latency", "device": "pi"},
]


def test_a_study_without_devices_has_the_pool_cpu() -> None:
    assert [p.name for p in local_pools(simulated_study().spec, cores=2)] == ["cpu"]


def test_a_pool_that_this_machine_cannot_be_names_the_pool_and_both_cures() -> None:
    spec = simulated_study(devices=DEVICES, objectives=OBJECTIVES).spec
    with pytest.raises(PoolNotHere, match=r"device pi: .*raspberry-pi-4.*--without pi.*--as-local pi"):
        local_pools(spec, cores=2)


def test_without_drops_the_device_and_its_objectives() -> None:
    spec = simulated_study(devices=DEVICES, objectives=OBJECTIVES).spec
    assert [p.name for p in local_pools(spec, cores=2, without=["pi"])] == ["here"]
    left = drop_devices(spec, ["pi"])
    assert [(o.metric, o.device) for o in left.objectives] == [("accuracy", None), ("latency", "here")]


def test_as_local_measures_here_and_marks_the_proxy() -> None:
    spec = simulated_study(devices=DEVICES, objectives=OBJECTIVES).spec
    pools = {p.name: p for p in local_pools(spec, cores=2, as_local=["pi"])}
    assert pools["pi"].proxy
    assert not pools["here"].proxy


def test_more_threads_than_cores_are_refused() -> None:
    spec = simulated_study(devices=[{"name": "cpu", "threads": 8}]).spec
    with pytest.raises(PoolNotHere, match=r"threads 8 are more than this machine's 2 cores"):
        local_pools(spec, cores=2)


def test_an_option_that_names_no_device_is_refused() -> None:
    with pytest.raises(PoolNotHere, match=r"--without phone: the study has no such device; it has cpu"):
        local_pools(simulated_study().spec, cores=2, without=["phone"])


def test_leaving_out_every_objective_is_refused() -> None:
    spec = simulated_study(devices=DEVICES, objectives=[{"metric": "latency", "device": "pi"}]).spec
    with pytest.raises(PoolNotHere, match="no objective would be left"):
        drop_devices(spec, ["pi"])
