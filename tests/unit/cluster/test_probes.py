"""When the kubelet is told to restart the operator, and what the HTTP port answers."""

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from paretune.cluster.queue import ReconcileQueue
from paretune.cluster.server import Probes, ProbeServer
from paretune.cluster.watches import Watches
from prometheus_client import CollectorRegistry, Gauge


class World:
    """What the probes look at, on a clock that the test turns."""

    def __init__(self) -> None:
        self.now = 100.0
        self.leads = True
        self.queue: ReconcileQueue[str] = ReconcileQueue(clock=lambda: self.now)
        self.watches = Watches(("studies", "jobs"), clock=lambda: self.now)
        self.probes = Probes(
            stuck=self.queue.stuck,
            watches=self.watches,
            leading=lambda: self.leads,
            reconcile_limit=60,
            watch_limit=300,
        )


@pytest.fixture
def world() -> World:
    return World()


def test_a_quiet_operator_is_healthy(world: World) -> None:
    world.now += 300

    assert world.probes.unhealthy() is None


def test_a_stuck_reconcile_is_unhealthy_and_named(world: World) -> None:
    world.queue.wake("ml/kws")
    world.queue.take(0)
    world.now += 61

    assert "ml/kws" in (world.probes.unhealthy() or "")


def test_a_silent_watch_is_unhealthy_and_named(world: World) -> None:
    world.now += 200
    world.watches.seen("studies")
    world.now += 101

    assert "jobs" in (world.probes.unhealthy() or "")
    world.watches.seen("jobs")
    assert world.probes.unhealthy() is None


def test_a_standby_need_not_reconcile(world: World) -> None:
    world.leads = False
    world.queue.wake("ml/kws")
    world.now += 10_000

    assert world.probes.unhealthy() is None


def test_a_standby_is_ready_once_it_has_listed_everything(world: World) -> None:
    world.leads = False
    world.watches.synced("jobs")
    assert "studies" in (world.probes.unready() or "")

    world.watches.synced("studies")
    assert world.probes.unready() is None


def test_an_event_before_the_list_is_complete_does_not_make_it_ready(world: World) -> None:
    world.watches.synced("jobs")
    world.watches.seen("studies")

    assert world.watches.unsynced() == ("studies",)


def test_ages_begin_with_the_watches(world: World) -> None:
    world.now += 5
    world.watches.seen("jobs")
    world.now += 2

    assert world.watches.ages() == {"studies": 7, "jobs": 2}


def test_a_resource_that_is_not_watched_is_an_error(world: World) -> None:
    with pytest.raises(KeyError, match="pods is not watched; watched are jobs, studies"):
        world.watches.seen("pods")


@pytest.fixture
def server(world: World) -> Iterator[ProbeServer]:
    registry = CollectorRegistry()
    Gauge("paretune_of_this_test", "One gauge.", registry=registry).set(3)
    server = ProbeServer(registry, world.probes, port=0)
    server.start()
    yield server
    server.stop()


def _get(server: ProbeServer, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{host}:{server.port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_port_answers_what_the_probes_say(server: ProbeServer, world: World) -> None:
    assert _get(server, "/healthz") == (200, "ok\n")
    assert _get(server, "/readyz") == (503, "not listed yet: jobs, studies\n")

    world.now += 301
    assert _get(server, "/healthz?verbose")[0] == 503


def test_the_port_has_the_metrics(server: ProbeServer) -> None:
    code, text = _get(server, "/metrics")

    assert code == 200
    assert "paretune_of_this_test 3.0" in text


def test_other_paths_are_not_found(server: ProbeServer) -> None:
    assert _get(server, "/")[0] == 404


def test_a_stopped_server_frees_its_port(world: World) -> None:
    server = ProbeServer(CollectorRegistry(), world.probes, host="127.0.0.1", port=0)
    server.start()
    port = server.port
    server.stop()

    again = ProbeServer(CollectorRegistry(), world.probes, host="127.0.0.1", port=port)
    assert again.port == port
    again.stop()
