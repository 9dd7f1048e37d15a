"""The API server: plain documents in, plain documents out."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException

from ..api.meta import GROUP, VERSION

Json = dict[str, Any]

PAGE = 500
TIMEOUT = (5.0, 60.0)
"""Seconds to connect and to read."""


@dataclass(frozen=True)
class Resource:
    """A kind of object and where it is served."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{quote(namespace)}")
        parts.append(self.plural)
        if name:
            parts.append(quote(name))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


STUDIES = Resource(GROUP, VERSION, "optimizationstudies")
TRIALS = Resource(GROUP, VERSION, "optimizationtrials")
POOLS = Resource(GROUP, VERSION, "devicepools", namespaced=False)
JOBS = Resource("batch", "v1", "jobs")
PODS = Resource("", "v1", "pods")
EVENTS = Resource("", "v1", "events")
CONFIG_MAPS = Resource("", "v1", "configmaps")
CLAIMS = Resource("", "v1", "persistentvolumeclaims")
NAMESPACES = Resource("", "v1", "namespaces", namespaced=False)
NODES = Resource("", "v1", "nodes", namespaced=False)


class ApiError(Exception):
    """The API server refused, or did not answer (status 0)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message = status, reason, message


class AlreadyExists(ApiError):
    """An object of this name is there."""


class Conflict(ApiError):
    """The object has changed since it was read."""


class Forbidden(ApiError):
    """Not allowed: RBAC, a quota, or an admission rule."""


class Api:
    """The calls that the operator makes.

    Args:
        client: the official client, which knows addresses and credentials.
    """

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    def get(self, resource: Resource, namespace: str | None, name: str) -> Json | None:
        """An object; None where there is none."""
        try:
            return self._call("GET", resource.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(
        self, resource: Resource, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> list[Json]:
        """Objects of a kind; without a namespace those of all."""
        return list(self._pages(resource, namespace, labels, fields))

    def _pages(self, resource: Resource, namespace: str | None, labels: str, fields: str) -> Iterator[Json]:
        query = {"limit": str(PAGE)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        while True:
            page = self._call("GET", resource.path(namespace), query)
            kind = page.get("kind", "").removesuffix("List")
            for item in page.get("items", []):
                yield {"apiVersion": page["apiVersion"], "kind": kind, **item}
            token = page["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    def create(self, resource: Resource, obj: Json) -> Json:
        """Create an object.

        Raises:
            AlreadyExists: when the name is taken.
        """
        return self._call("POST", resource.path(obj["metadata"].get("namespace")), body=obj)

    def replace(self, resource: Resource, obj: Json, subresource: str = "") -> Json:
        """Replace an object, or its status.

        Raises:
            Conflict: when it has changed since it was read.
        """
        # Who set which field is the server's to keep; sending it back would double what is written.
        metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
        path = resource.path(metadata.get("namespace"), metadata["name"], subresource)
        return self._call("PUT", path, body={**obj, "metadata": metadata})

    def patch(self, resource: Resource, namespace: str | None, name: str, change: Json) -> Json:
        """Change parts of an object (JSON merge patch)."""
        return self._call(
            "PATCH", resource.path(namespace, name), body=change, kind="application/merge-patch+json"
        )

    def delete(self, resource: Resource, namespace: str | None, name: str, uid: str | None = None) -> None:
        """Delete an object with all that it owns. One that is gone, or is another by now, is no error."""
        body: Json = {"propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            self._call("DELETE", resource.path(namespace, name), body=body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        kind: str = "application/json",
    ) -> Json:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = kind
        try:
            serialized = self._client.param_serialize(
                method=method,
                resource_path=path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            response = self._client.call_api(*serialized, _request_timeout=TIMEOUT)
            data = response.read()  # type: ignore[no-untyped-call]
        except ApiException as error:
            raise _refused(error.status or 0, error.reason or "", error.body) from error
        except OSError as error:
            raise ApiError(0, "Unreachable", str(error)[:300]) from error
        except Exception as error:  # urllib3's, which the client lets through
            if type(error).__module__.startswith("urllib3"):
                raise ApiError(0, "Unreachable", str(error)[:300]) from error
            raise
        if not 200 <= response.status < 300:
            raise _refused(response.status, response.reason or "", data)
        result: Json = json.loads(data)
        return result


def _refused(status: int, reason: str, body: Any) -> ApiError:
    message = ""
    try:
        plain = json.loads(body or "{}")
        reason, message = plain.get("reason", reason), plain.get("message", "")
    except (ValueError, AttributeError, TypeError):
        message = str(body)[:300]
    kinds: dict[tuple[int, str], Callable[[int, str, str], ApiError]] = {
        (409, "AlreadyExists"): AlreadyExists,
        (409, "Conflict"): Conflict,
        (403, "Forbidden"): Forbidden,
    }
    return kinds.get((status, reason), ApiError)(status, reason, message)
