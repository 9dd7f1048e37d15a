"""The operator's HTTP port: `/metrics` for Prometheus, `/healthz` and `/readyz` for the kubelet."""

import logging
import socket
import threading
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, MetricsHandler

from .watches import Watches

logger = logging.getLogger(__name__)


class Probes:
    """Whether the process should be restarted, and whether it is up.

    Args:
        stuck: `ReconcileQueue.stuck`: the key whose reconcile has been due or running for longer than so many
            seconds.
        watches: when the watches were last heard of.
        leading: this process is the one that acts.
        reconcile_limit: seconds after which a reconcile counts as stuck.
        watch_limit: seconds after which a silent watch of the leader counts as dead. The API server sends a
            bookmark about once a minute.
    """

    def __init__(
        self,
        *,
        stuck: Callable[[float], object | None],
        watches: Watches,
        leading: Callable[[], bool],
        reconcile_limit: float = 300.0,
        watch_limit: float = 600.0,
    ) -> None:
        self._stuck = stuck
        self._watches = watches
        self._leading = leading
        self._reconcile_limit = reconcile_limit
        self._watch_limit = watch_limit

    def unhealthy(self) -> str | None:
        """Why a restart is due, or None."""
        if not self._leading():
            return None  # nothing is reconciled, and whoever leads watches
        if (key := self._stuck(self._reconcile_limit)) is not None:
            return (
                f"the reconcile of {key} has been due or running for more than {self._reconcile_limit:.0f} s"
            )
        if (resource := self._watches.stale(self._watch_limit)) is not None:
            return f"the watch of {resource} has been silent for more than {self._watch_limit:.0f} s"
        return None

    def unready(self) -> str | None:
        """What is still missing, or None: a leader, or a standby that could take over."""
        if unsynced := self._watches.unsynced():
            return f"not listed yet: {', '.join(unsynced)}"
        return None


class ProbeServer:
    """The HTTP server, in threads of its own.

    Args:
        registry: the metrics.
        probes: what the two probes answer: 200 `ok`, or 503 with the reason.
        host: address to listen at; empty: all, IPv4 and IPv6.
        port: port to listen at; 0: any that is free.

    Raises:
        OSError: when the port is taken.
    """

    def __init__(
        self, registry: CollectorRegistry, probes: Probes, *, host: str = "", port: int = 8080
    ) -> None:
        class Handler(MetricsHandler):
            timeout = 10  # of a client that says nothing

            def do_GET(self) -> None:  # noqa: N802  (http.server's name)
                path = urlsplit(self.path).path
                if path == "/metrics":
                    super().do_GET()
                elif path == "/healthz":
                    self._answer(probes.unhealthy())
                elif path == "/readyz":
                    self._answer(probes.unready())
                else:
                    self._send(404, "there are /metrics, /healthz and /readyz")

            def _answer(self, reason: str | None) -> None:
                if reason is not None:
                    logger.warning("%s: %s", self.path, reason)
                self._send(200 if reason is None else 503, reason or "ok")

            def _send(self, code: int, text: str) -> None:
                body = f"{text}\n".encode()
                self.send_response(code)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        Handler.registry = registry
        self._server = _server(host, port, Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="probes", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that it listens at."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True


class _DualStackServer(_Server):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def _server(host: str, port: int, handler: type[MetricsHandler]) -> ThreadingHTTPServer:
    if host:
        return (_DualStackServer if ":" in host else _Server)((host, port), handler)
    if socket.has_dualstack_ipv6():
        return _DualStackServer(("::", port), handler)
    return _Server(("0.0.0.0", port), handler)  # noqa: S104  (the kubelet asks at the pod's address)
