"""An API server as tests speak with it: plain documents in and out, one method for each verb."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

from kubernetes import client, config
from urllib3 import Timeout

Document = dict[str, Any]
PLURALS = {
    "NetworkPolicy": "networkpolicies",
    "OptimizationStudy": "optimizationstudies",
    "Endpoints": "endpoints",
    "StorageClass": "storageclasses",
    "RuntimeClass": "runtimeclasses",
    "PriorityClass": "priorityclasses",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
}
"""Kinds whose plural is not the kind and an s."""
MERGE, STRATEGIC, APPLY = (
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)


class Refused(Exception):
    """The API server answered with an error.

    Attributes:
        code: HTTP status, such as 409 or 422.
        reason: machine-readable, such as AlreadyExists or Invalid.
        message: the whole sentence, as kubectl prints it.
        causes: `(field, message)` of each thing that is wrong with a document.
    """

    def __init__(self, code: int, body: str) -> None:
        try:
            status = json.loads(body)
        except ValueError:
            status = {}
        if not isinstance(status, dict):
            status = {}
        self.code = code
        self.reason = str(status.get("reason", ""))
        self.message = str(status.get("message", body))
        causes = (status.get("details") or {}).get("causes") or ()
        self.causes = [(cause.get("field", ""), cause.get("message", "")) for cause in causes]
        super().__init__(f"{code} {self.reason}: {self.message}")


class ApiServer:
    """A client without types; a kubeconfig says where the server is and who we are. Threads may share it."""

    def __init__(self, kubeconfig: Path | str, context: str | None = None) -> None:
        settings = client.Configuration()
        config.load_kube_config(str(kubeconfig), context=context, client_configuration=settings)
        settings.connection_pool_maxsize = 64
        settings.proxy = None if "127.0.0.1" in str(settings.host) else settings.proxy
        self.kubeconfig = Path(kubeconfig)
        self.url = str(settings.host).rstrip("/")
        self._settings = settings
        self._client = client.ApiClient(settings)
        self._pool = self._client.rest_client.pool_manager

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._pool.clear()

    def call(
        self,
        method: str,
        path: str,
        body: Document | None = None,
        *,
        content: str = "application/json",
        accept: str = "application/json",
        query: Mapping[str, Any] | None = None,
        timeout: float = 60.0,
    ) -> Document:
        """One request; the answer as a document.

        Raises:
            Refused: when the server says no.
        """
        answer = self._pool.request(
            method,
            self._address(path, query),
            body=None if body is None else json.dumps(body).encode(),
            headers=self._headers(content, accept),
            timeout=timeout,
            retries=False,
        )
        text = answer.data.decode()
        if answer.status >= 400:
            raise Refused(answer.status, text)
        try:
            found = json.loads(text)
        except ValueError:
            return {"text": text}
        return found if isinstance(found, dict) else {"items": found}

    def get(self, path: str, **query: Any) -> Document:
        """An object or a list."""
        return self.call("GET", path, query=query)

    def items(self, path: str, **query: Any) -> list[Document]:
        """The objects of a list."""
        found = self.get(path, **query)
        kind, version = str(found["kind"]).removesuffix("List"), found["apiVersion"]
        return [{"apiVersion": version, "kind": kind, **item} for item in found["items"]]

    def table(self, path: str) -> Document:
        """A list as `kubectl get` shows it: columnDefinitions and rows."""
        return self.call("GET", path, accept="application/json;as=Table;v=v1;g=meta.k8s.io")

    def find(self, path: str) -> Document | None:
        """An object, or None when there is none."""
        try:
            return self.get(path)
        except Refused as refused:
            if refused.code == 404:
                return None
            raise

    def create(self, document: Document, namespace: str = "", **query: Any) -> Document:
        """Create an object, in `namespace` unless it names one. Unknown fields are an error."""
        return self.call(
            "POST", collection_of(document, namespace), document, query={"fieldValidation": "Strict", **query}
        )

    def apply(self, document: Document, namespace: str = "") -> Document:
        """Server-side apply: create, or make it so."""
        path = f"{collection_of(document, namespace)}/{document['metadata']['name']}"
        return self.call(
            "PATCH", path, document, content=APPLY, query={"fieldManager": "tests", "force": "true"}
        )

    def replace(self, document: Document, subresource: str = "") -> Document:
        """Write a whole object, or its status."""
        path = path_of(document) + (f"/{subresource}" if subresource else "")
        return self.call("PUT", path, document)

    def patch(self, path: str, body: Document, content: str = MERGE) -> Document:
        """Change parts of an object."""
        return self.call("PATCH", path, body, content=content)

    def delete(self, path: str, **options: Any) -> None:
        """Delete an object; one that is gone already is no error. Options: gracePeriodSeconds, ..."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", **options}
        try:
            self.call("DELETE", path, body)
        except Refused as refused:
            if refused.code != 404:
                raise

    def watch(
        self, path: str, version: str, seconds: int = 300, **query: Any
    ) -> Iterator[tuple[str, Document]]:
        """Changes since a resourceVersion, as (ADDED | MODIFIED | DELETED | BOOKMARK | ERROR, object).

        Raises:
            Refused: when the server does not let us watch.
        """
        asked = {
            "watch": "true",
            "resourceVersion": version,
            "timeoutSeconds": seconds,
            "allowWatchBookmarks": "true",
            **query,
        }
        answer = self._pool.request(
            "GET",
            self._address(path, asked),
            headers=self._headers("application/json", "application/json"),
            timeout=Timeout(connect=10, read=seconds + 30),
            retries=False,
            preload_content=False,
        )
        try:
            if answer.status >= 400:
                raise Refused(answer.status, answer.data.decode())
            rest = b""
            for chunk in answer.stream(65536, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    yield event["type"], event["object"]
        finally:
            answer.close()

    def _address(self, path: str, query: Mapping[str, Any] | None) -> str:
        return f"{self.url}{path}" + (f"?{urlencode(query)}" if query else "")

    def _headers(self, content: str, accept: str) -> dict[str, str]:
        headers = {"Accept": accept, "Content-Type": content}
        token = self._settings.get_api_key_with_prefix("BearerToken", alias="authorization")
        return {**headers, "Authorization": token} if token else headers


def collection_of(document: Document, namespace: str = "") -> str:
    """Path of the list that a document belongs to."""
    version, kind = str(document["apiVersion"]), str(document["kind"])
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    inside = (document.get("metadata") or {}).get("namespace") or namespace
    plural = PLURALS.get(kind, kind.lower() + "s")
    return f"{base}/namespaces/{inside}/{plural}" if inside else f"{base}/{plural}"


def path_of(document: Document) -> str:
    """Path of a document that has its namespace in its metadata."""
    return f"{collection_of(document)}/{document['metadata']['name']}"
