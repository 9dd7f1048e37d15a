"""What kube-proxy and CoreDNS do in other clusters, for one node: addresses and names of Services.

A Service's address is put on the loopback interface, and connections to it are copied to a ready endpoint; so
nothing is needed of the kernel (no iptables, conntrack or bridge filter). Names are answered over UDP.

    python -m e2e.services KUBECONFIG NAMESERVER_ADDRESS
"""

import asyncio
import contextlib
import ipaddress
import random
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from support.api_server import ApiServer, Refused
from urllib3.exceptions import HTTPError

DOMAIN = "cluster.local"
LOOK_SECONDS = 0.5
A, IN = 1, 1
ANSWER, NO_SUCH_NAME = 0x8580, 0x8583
"""Flags of an answer: authoritative, recursion said to be available; and with NXDOMAIN."""
TTL_SECONDS = 1

Target = tuple[str, int]


@dataclass(frozen=True)
class World:
    """The Services of a cluster as they are now.

    Attributes:
        names: address by name, without the cluster's domain.
        endpoints: ready endpoints by address and port of the Service.
    """

    names: Mapping[str, str]
    endpoints: Mapping[Target, tuple[Target, ...]]


def world(services: list[dict[str, Any]], slices: list[dict[str, Any]], api_server: Target) -> World:
    """What Services and EndpointSlices say; the API server has no endpoints of its own here."""
    names: dict[str, str] = {}
    endpoints: dict[Target, tuple[Target, ...]] = {}
    for service in services:
        spec, meta = service["spec"], service["metadata"]
        address = spec.get("clusterIP")
        if not address or address == "None":
            continue
        names[f"{meta['name']}.{meta['namespace']}.svc"] = address
        own = [
            each
            for each in slices
            if each["metadata"]["namespace"] == meta["namespace"]
            and each["metadata"].get("labels", {}).get("kubernetes.io/service-name") == meta["name"]
        ]
        for port in spec.get("ports", ()):
            found = [
                (target, there["port"])
                for each in own
                for there in each.get("ports") or ()
                if (there.get("name") or "") == (port.get("name") or "")
                for endpoint in each.get("endpoints") or ()
                if endpoint.get("conditions", {}).get("ready") is not False
                for target in endpoint["addresses"]
            ]
            if (meta["namespace"], meta["name"]) == ("default", "kubernetes"):
                found = [api_server]
            endpoints[address, port["port"]] = tuple(found)
    return World(names, endpoints)


def answer(query: bytes, names: Mapping[str, str]) -> bytes | None:
    """The answer to a DNS query (RFC 1035): A records of Services alone; None for what is no query."""
    try:
        number, flags, questions = struct.unpack("!HHH", query[:6])
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii").lower())
            at += 1 + query[at]
        kind, _ = struct.unpack("!HH", query[at + 1 : at + 5])
    except (struct.error, IndexError, UnicodeDecodeError):
        return None
    if flags & 0x8000 or questions != 1:
        return None
    question = query[12 : at + 5]
    address = names.get(".".join(labels).removesuffix(f".{DOMAIN}"))
    if ".".join(labels).endswith(f".{DOMAIN}") is False:
        address = None
    records = b""
    if address and kind == A:
        packed = ipaddress.IPv4Address(address).packed
        records = b"\xc0\x0c" + struct.pack("!HHIH", A, IN, TTL_SECONDS, len(packed)) + packed
    flags = ANSWER if address else NO_SUCH_NAME
    return struct.pack("!HHHHHH", number, flags, 1, 1 if records else 0, 0, 0) + question + records


class _Names(asyncio.DatagramProtocol):
    def __init__(self, proxy: "Proxy") -> None:
        self._proxy = proxy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        reply = answer(data, self._proxy.world.names)
        if reply is not None:
            self._transport.sendto(reply, address)  # type: ignore[attr-defined]


class Proxy:
    """Listens where Services are, and follows them."""

    def __init__(self, kubeconfig: Path) -> None:
        self.world = World({}, {})
        self._api = ApiServer(kubeconfig)
        self._kubeconfig = kubeconfig
        self._servers: dict[Target, asyncio.Server] = {}

    async def run(self, nameserver: str) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: _Names(self), local_addr=(nameserver, 53))
        while True:
            with contextlib.suppress(Refused, OSError, HTTPError):
                self.world = await asyncio.to_thread(self._look)
            for target in self.world.endpoints.keys() - self._servers.keys():
                subprocess.run(
                    ["ip", "address", "replace", f"{target[0]}/32", "dev", "lo"],
                    check=True,
                    capture_output=True,
                )
                self._servers[target] = await asyncio.start_server(self._serve(target), *target)
            for target in self._servers.keys() - self.world.endpoints.keys():
                self._servers.pop(target).close()
            await asyncio.sleep(LOOK_SECONDS)

    def _look(self) -> World:
        split = urlsplit(self._api.url)
        return world(
            self._api.items("/api/v1/services"),
            self._api.items("/apis/discovery.k8s.io/v1/endpointslices"),
            (split.hostname or "", split.port or 443),
        )

    def _serve(self, service: Target) -> Any:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                ready = self.world.endpoints.get(service, ())
                if not ready:
                    return  # refused a moment later than by a kernel, with the same effect
                far_reader, far_writer = await asyncio.open_connection(*random.choice(ready))
                await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
            except OSError:
                pass
            finally:
                writer.close()

        return serve


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()


if __name__ == "__main__":
    asyncio.run(Proxy(Path(sys.argv[1])).run(sys.argv[2]))
