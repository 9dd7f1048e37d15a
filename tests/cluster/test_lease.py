"""Who leads: candidates at a real API server, one of which dies, hangs, is cut off, or goes in good order."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from kubernetes import client, config
from kubernetes.leaderelection import leaderelection
from paretune.cluster.lease import Leadership
from support.api_server import ApiServer
from support.waiting import until

NAME = "paretune-operator"
DURATION, RENEW, RETRY = 4, 3, 1
"""Seconds; shorter than an operator's, so that a test need not wait as long."""


class Candidate:
    """A candidate of this process, and what it was told."""

    def __init__(self, name: str, namespace: str, api: client.ApiClient, duration: int) -> None:
        self.told: list[str] = []
        self.leadership = Leadership(
            NAME,
            namespace,
            name,
            lambda: self.told.append("start"),
            lambda reason: self.told.append(f"stop: {reason}"),
            duration,
            RENEW,
            RETRY,
            api_client=api,
        )
        self.leadership.start()

    @property
    def leads(self) -> bool:
        return self.leadership.leading

    @property
    def lost(self) -> str:
        return next((t for t in self.told if t.startswith("stop: ")), "")


class Relay:
    """A way to the API server that can be cut, or go silent in the middle of everything."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "", parts.port or 443)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def hang(self) -> None:
        """Connections stay open, and nothing passes."""
        self._flowing.clear()

    def close(self) -> None:
        """Connections are reset, and new ones refused."""
        self._closed = True
        self._flowing.set()
        for each in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
                if self._closed:
                    near.close()
                    return
                far = socket.create_connection(self._target)
            except OSError:
                return
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self._flowing.wait()
                sink.sendall(data)
        except OSError:
            pass
        finally:
            source.close()
            sink.close()


def _client(kubeconfig: Path, server: str = "") -> client.ApiClient:
    settings = client.Configuration()
    config.load_kube_config(str(kubeconfig), client_configuration=settings)
    if server:
        settings.host = server
    return client.ApiClient(settings)


@pytest.fixture
def relay(api: ApiServer) -> Iterator[Relay]:
    relay = Relay(api.url)
    yield relay
    relay.close()


@pytest.fixture
def candidate(api: ApiServer, namespace: str) -> Iterator[Callable[..., Candidate]]:
    """A function that starts a candidate; all of them stop with the test."""
    started: list[Candidate] = []

    def start(name: str, server: str = "", duration: int = DURATION) -> Candidate:
        started.append(Candidate(name, namespace, _client(api.kubeconfig, server), duration))
        return started[-1]

    yield start
    for each in started:
        each.leadership.stop()


def _lease(api: ApiServer, namespace: str) -> dict[str, Any]:
    found = api.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{NAME}")
    return dict(found["spec"])


def test_one_of_two_candidates_leads(
    candidate: Callable[..., Candidate], api: ApiServer, namespace: str
) -> None:
    one = candidate("one")
    until(lambda: one.leads)
    other = candidate("other")
    began = _lease(api, namespace)["renewTime"]
    until(lambda: _lease(api, namespace)["renewTime"] > began)

    assert one.told == ["start"]
    assert not other.leads
    assert other.told == []
    assert _lease(api, namespace)["holderIdentity"] == "one"


def test_a_leader_that_stops_hands_over_before_its_lease_is_over(
    candidate: Callable[..., Candidate], api: ApiServer, namespace: str
) -> None:
    one = candidate("one", duration=3600)
    until(lambda: one.leads)
    other = candidate("other", duration=3600)
    one.leadership.stop()

    assert not one.leads
    assert _lease(api, namespace).get("holderIdentity") != "one"
    until(lambda: other.leads)
    assert one.told == ["start"]
    assert _lease(api, namespace)["leaseTransitions"] == 1


def test_a_candidate_that_stops_leaves_the_lease_to_its_holder(
    candidate: Callable[..., Candidate], api: ApiServer, namespace: str
) -> None:
    one = candidate("one")
    until(lambda: one.leads)
    other = candidate("other")
    other.leadership.stop()

    assert _lease(api, namespace)["holderIdentity"] == "one"
    assert one.leads


def test_a_leader_whose_api_server_hangs_is_stopped_before_another_leads(
    candidate: Callable[..., Candidate], relay: Relay
) -> None:
    one = candidate("one", f"https://127.0.0.1:{relay.port}")
    until(lambda: one.leads)
    other = candidate("other")
    both: list[bool] = []
    relay.hang()

    def other_leads() -> bool:
        both.append(one.leads and other.leads)
        return other.leads

    until(lambda: one.lost)
    until(other_leads)
    assert not any(both)
    assert "could not be renewed for 3 s" in one.lost


def test_a_leader_that_is_cut_off_is_stopped_and_says_why(
    candidate: Callable[..., Candidate], relay: Relay
) -> None:
    one = candidate("one", f"https://127.0.0.1:{relay.port}")
    until(lambda: one.leads)
    relay.close()

    until(lambda: one.lost)
    assert "refused" in one.lost
    assert not one.leads
    assert one.told.count(one.lost) == 1


def test_a_leader_whose_request_never_ends_is_stopped(
    candidate: Callable[..., Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = candidate("one")
    until(lambda: one.leads)
    ended = threading.Event()
    monkeypatch.setattr(client.CoordinationV1Api, "read_namespaced_lease", lambda *_, **__: ended.wait())
    try:
        until(lambda: one.lost)
    finally:
        monkeypatch.undo()
        ended.set()


def test_a_clock_that_is_set_forward_takes_no_lease(
    process: Callable[..., subprocess.Popen[str]],
    candidate: Callable[..., Candidate],
    api: ApiServer,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = process("one")
    assert _first_line(one) == "leads"
    other = candidate("other", duration=3600)
    asked: list[float] = []

    def later() -> float:
        asked.append(time.time() + 86_400 * len(asked))
        return asked[-1]

    monkeypatch.setattr(leaderelection, "time", SimpleNamespace(time=later, sleep=time.sleep))
    until(lambda: len(asked) > 10)

    assert _lease(api, namespace)["holderIdentity"] == "one"
    assert other.told == []
    assert one.poll() is None


def test_a_leader_whose_lease_was_taken_stops_at_once(
    candidate: Callable[..., Candidate], api: ApiServer, namespace: str
) -> None:
    one = candidate("one")
    until(lambda: one.leads)
    api.patch(
        f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{NAME}",
        {"spec": {"holderIdentity": "somebody"}},
    )

    until(lambda: one.lost)
    assert "is held by somebody" in one.lost
    assert _lease(api, namespace)["holderIdentity"] == "somebody"


def test_a_leader_whose_lease_was_deleted_takes_it_again(
    candidate: Callable[..., Candidate], api: ApiServer, namespace: str
) -> None:
    one = candidate("one")
    until(lambda: one.leads)
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{NAME}"
    api.delete(path)

    until(lambda: api.find(path))
    assert one.leads
    assert one.told == ["start"]


def test_a_leader_whose_work_fails_gives_up(api: ApiServer, namespace: str) -> None:
    lost = threading.Event()
    reasons: list[str] = []

    def fail() -> None:
        raise ValueError("no configuration")

    def stopped(reason: str) -> None:
        reasons.append(reason)
        lost.set()

    leadership = Leadership(
        NAME, namespace, "one", fail, stopped, DURATION, RENEW, RETRY, api_client=_client(api.kubeconfig)
    )
    leadership.start()

    assert lost.wait(60)
    assert reasons == ["the leader's work failed: no configuration"]


PROCESS = """
import sys, time
from kubernetes import client, config
from kubernetes.leaderelection import leaderelection
from paretune.cluster.lease import Leadership
settings = client.Configuration()
config.load_kube_config(sys.argv[1], client_configuration=settings)
settings.host = sys.argv[4] or settings.host
times = dict(duration={duration}, renew={renew}, retry={retry})
Leadership(
    {name!r}, sys.argv[2], sys.argv[3], lambda: print("leads", flush=True),
    api_client=client.ApiClient(settings), **times,
).start()
time.sleep(600)
"""


@pytest.fixture
def process(api: ApiServer, namespace: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A function that starts a candidate in a process of its own, with what an operator does by default."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str, server: str = "") -> subprocess.Popen[str]:
        code = PROCESS.format(name=NAME, duration=DURATION, renew=RENEW, retry=RETRY)
        command = [sys.executable, "-c", code, str(api.kubeconfig), namespace, name, server]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_killed_leader_is_replaced(
    process: Callable[..., subprocess.Popen[str]], candidate: Callable[..., Candidate]
) -> None:
    one = process("one")
    assert _first_line(one) == "leads"
    other = candidate("other")
    os.kill(one.pid, signal.SIGKILL)

    until(lambda: other.leads)


def test_a_process_that_loses_the_lease_ends(
    process: Callable[..., subprocess.Popen[str]], relay: Relay
) -> None:
    one = process("one", f"https://127.0.0.1:{relay.port}")
    assert _first_line(one) == "leads"
    relay.hang()

    assert one.wait(60) == 1
    assert one.stderr is not None
    assert "leadership lost" in one.stderr.read()


def test_a_leader_that_was_frozen_ends_when_it_thaws(
    process: Callable[..., subprocess.Popen[str]], candidate: Callable[..., Candidate]
) -> None:
    one = process("one")
    assert _first_line(one) == "leads"
    other = candidate("other")
    os.kill(one.pid, signal.SIGSTOP)
    until(lambda: other.leads)
    os.kill(one.pid, signal.SIGCONT)

    assert one.wait(60) == 1
    assert other.leads
