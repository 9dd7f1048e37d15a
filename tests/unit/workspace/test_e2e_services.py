"""Names and endpoints of Services on the node of `make e2e`."""

import struct
from typing import Any

from e2e.services import NO_SUCH_NAME, World, answer, world

API_SERVER = ("10.88.7.1", 6443)


def _service(name: str, address: str, /, **port: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "system"},
        "spec": {"clusterIP": address, "ports": [{"port": 5000, **port}]},
    }


def _slice(service: str, addresses: list[str], ready: bool = True, **port: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "system", "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"port": 5000, **port}],
        "endpoints": [{"addresses": addresses, "conditions": {"ready": ready}}],
    }


def _query(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def _flags(reply: bytes | None) -> int:
    assert reply is not None
    return int(struct.unpack("!H", reply[2:4])[0])


def test_a_service_leads_to_its_ready_endpoints() -> None:
    slices = [_slice("mlflow", ["10.88.7.12"]), _slice("mlflow", ["10.88.7.13"], ready=False)]
    seen = world([_service("mlflow", "10.96.1.2")], slices, API_SERVER)
    assert seen.endpoints == {("10.96.1.2", 5000): (("10.88.7.12", 5000),)}
    assert seen.names == {"mlflow.system.svc": "10.96.1.2"}


def test_a_port_finds_the_endpoints_port_of_its_name() -> None:
    slices = [_slice("mlflow", ["10.88.7.12"], name="http", port=8080)]
    assert world([_service("mlflow", "10.96.1.2", name="http")], slices, API_SERVER).endpoints == {
        ("10.96.1.2", 5000): (("10.88.7.12", 8080),)
    }
    assert world([_service("mlflow", "10.96.1.2", name="other")], slices, API_SERVER).endpoints == {
        ("10.96.1.2", 5000): ()
    }


def test_the_api_servers_service_leads_to_the_api_server() -> None:
    service = _service("kubernetes", "10.96.0.1") | {
        "metadata": {"name": "kubernetes", "namespace": "default"}
    }
    assert world([service], [], API_SERVER).endpoints == {("10.96.0.1", 5000): (API_SERVER,)}


def test_a_headless_service_has_no_address() -> None:
    assert world([_service("mlflow", "None")], [], API_SERVER) == World({}, {})


def test_a_services_name_is_answered_with_its_address() -> None:
    reply = answer(_query("mlflow.system.svc.cluster.local"), {"mlflow.system.svc": "10.96.1.2"})
    assert reply is not None
    assert reply[:2] == _query("x")[:2]
    assert reply.endswith(bytes([10, 96, 1, 2]))
    assert struct.unpack("!H", reply[6:8])[0] == 1


def test_other_names_do_not_exist() -> None:
    names = {"mlflow.system.svc": "10.96.1.2"}
    for name in ("example.com", "mlflow.system.svc", "other.system.svc.cluster.local"):
        assert _flags(answer(_query(name), names)) == NO_SUCH_NAME


def test_a_service_has_no_address_of_version_6() -> None:
    reply = answer(_query("mlflow.system.svc.cluster.local", kind=28), {"mlflow.system.svc": "10.96.1.2"})
    assert reply is not None
    assert struct.unpack("!H", reply[6:8])[0] == 0
    assert _flags(reply) != NO_SUCH_NAME


def test_what_is_no_query_is_not_answered() -> None:
    assert answer(b"", {}) is None
    assert answer(b"\0" * 11, {}) is None
    response = bytearray(_query("a.b"))
    response[2] |= 0x80
    assert answer(bytes(response), {}) is None
