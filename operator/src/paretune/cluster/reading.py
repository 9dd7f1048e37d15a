"""A cluster as a person reads it: by the kubeconfig and the rights of whoever asks. Nothing is written."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from kubernetes import config as untyped
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from pydantic import BaseModel, ValidationError

from ..api import OptimizationStudy, OptimizationTrial
from .api import JOBS, PODS, STUDIES, TRIALS, Api, ApiError, Json, Resource
from .names import LABEL_LIMIT, STUDY, STUDY_UID, TRIAL, fitting

config: Any = untyped
M = TypeVar("M", bound=BaseModel)

LOG_BYTES = 1 << 20
"""The most of a log that is read."""
SILENCE = 30.0
"""Seconds after which a watch that says nothing is asked anew."""


class ReadingError(Exception):
    """The cluster could not be read; the message is a sentence with the cure."""


class NoCluster(ReadingError):
    """There is no kubeconfig, or no such context in it."""


class NoAnswer(ReadingError):
    """Nobody answers at the cluster's address."""


class Denied(ReadingError):
    """Whoever asks may not."""


class NotFound(ReadingError):
    """There is no such object."""


class Unreadable(ReadingError):
    """A record is not as this version knows it."""


@dataclass(frozen=True)
class Change:
    """What a watch told: the object as it is now, or was before it was deleted."""

    resource: Resource
    obj: Json
    deleted: bool = False


class Cluster:
    """A cluster and a namespace in it.

    Args:
        client: the official client, which knows address and credentials.
        namespace: where objects are looked for.
        server: address, for messages.
    """

    def __init__(self, client: ApiClient, namespace: str, server: str = "") -> None:
        self._client = client
        self._api = Api(client)
        self.namespace = namespace
        self.server = server or str(client.configuration.host)

    @classmethod
    def connect(cls, kubeconfig: Path | None = None, context: str = "", namespace: str = "") -> Self:
        """The cluster that kubectl would speak with. Nobody is asked yet.

        Args:
            kubeconfig: file; None: KUBECONFIG, else ~/.kube/config, else the pod's service account.
            context: of the kubeconfig; empty: its current one.
            namespace: empty: the context's, else `default`.

        Raises:
            NoCluster: when there is no such file or context, or its credentials cannot be had.
        """
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # failures end in a sentence of ours
        settings = Configuration()
        file = str(kubeconfig) if kubeconfig else None
        if kubeconfig is not None and not kubeconfig.is_file():
            raise NoCluster(f"--kubeconfig {kubeconfig}: there is no such file")
        try:
            config.load_kube_config(file, context=context or None, client_configuration=settings)
            found = _namespace(file, context)
        except ConfigException as error:
            settings, found = _in_cluster(error, file, context)
        settings.retries = False
        return cls(ApiClient(settings), namespace or found or "default")

    def studies(self, *, everywhere: bool = False) -> list[Json]:
        """The studies of the namespace, or of all namespaces, by namespace and name.

        Raises:
            ReadingError: when they cannot be read.
        """
        namespace = None if everywhere else self.namespace
        with _sentences(self, STUDIES, "list", namespace):
            found = self._api.list(STUDIES, namespace)
        return sorted(found, key=lambda s: (s["metadata"]["namespace"], s["metadata"]["name"]))

    def study(self, name: str) -> Json:
        """A study.

        Raises:
            NotFound: when there is none; the message names those that there are.
            ReadingError: when it cannot be read.
        """
        with _sentences(self, STUDIES, "get", self.namespace):
            found = self._api.get(STUDIES, self.namespace, name)
        if found is None:
            raise NotFound(f"study {name}: not in namespace {self.namespace}{self._others()}")
        return found

    def trials(self, study: Json) -> list[Json]:
        """The records of a study in number order; those of an earlier study of this name are left out.

        Raises:
            ReadingError: when they cannot be read.
        """
        metadata = study["metadata"]
        with _sentences(self, TRIALS, "list", metadata["namespace"]):
            found = self._api.list(TRIALS, metadata["namespace"], labels=self._selector(study))
        return sorted(found, key=lambda t: int(t["spec"]["number"]))

    def jobs(self, study: Json, number: int | None = None) -> list[Json]:
        """Jobs of a study's trial, or of all its trials, oldest first.

        Raises:
            ReadingError: when they cannot be read.
        """
        return self._children(JOBS, study, number)

    def pods(self, study: Json, number: int | None = None) -> list[Json]:
        """Pods of a study's trial, or of all its trials, oldest first.

        Raises:
            ReadingError: when they cannot be read.
        """
        return self._children(PODS, study, number)

    def log(self, pod: Json, container: str, lines: int) -> str | None:
        """The last lines that a container printed; None when it has not begun, or its log is gone.

        Raises:
            ReadingError: when it may not be read.
        """
        metadata = pod["metadata"]
        query = {"container": container, "tailLines": str(lines), "limitBytes": str(LOG_BYTES)}
        path = PODS.path(metadata["namespace"], metadata["name"], "log")
        with _sentences(self, PODS, "get", metadata["namespace"], "pods/log"):
            try:
                data: bytes = self._open(path, query, (5.0, 30.0)).read()
            except ApiException as error:
                if error.status in (400, 404, 500, 502, 503):  # not begun, gone, or its node does not answer
                    return None
                raise
        return data.decode(errors="replace")

    def watch(self, resource: Resource, study: Json, since: str) -> Iterator[Change]:
        """Changes of a study (`resource` STUDIES) or of its trials, until the API server ends the stream.

        Args:
            resource: STUDIES or TRIALS.
            study: as it was read.
            since: resourceVersion after which changes are told.

        Raises:
            NotFound: when `since` is too old, and all is to be read anew.
            ReadingError: when they cannot be read.
        """
        metadata = study["metadata"]
        query = {"watch": "true", "timeoutSeconds": str(int(SILENCE)), "resourceVersion": since}
        if resource is STUDIES:
            query["fieldSelector"] = f"metadata.name={metadata['name']}"
        else:
            query["labelSelector"] = self._selector(study)
        with _sentences(self, resource, "watch", metadata["namespace"]):
            response = self._open(resource.path(metadata["namespace"]), query, (5.0, SILENCE + 15))
            for line in _lines(response.response.stream(65536)):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise NotFound(f"the watch ended: {event['object'].get('message', '')}")
                yield Change(resource, event["object"], event["type"] == "DELETED")

    def version_of(self, resource: Resource, study: Json) -> str:
        """A resourceVersion from which a watch of everything that `trials` left out may begin."""
        query = {"limit": "1", "labelSelector": self._selector(study)}
        with _sentences(self, resource, "list", self.namespace):
            answer = json.loads(self._open(resource.path(study["metadata"]["namespace"]), query).read())
        return str(answer["metadata"]["resourceVersion"])

    def _selector(self, study: Json) -> str:
        metadata = study["metadata"]
        return f"{STUDY}={fitting(metadata['name'], LABEL_LIMIT)},{STUDY_UID}={metadata['uid']}"

    def _children(self, resource: Resource, study: Json, number: int | None) -> list[Json]:
        labels = self._selector(study) + (f",{TRIAL}={number}" if number is not None else "")
        with _sentences(self, resource, "list", study["metadata"]["namespace"]):
            found = self._api.list(resource, study["metadata"]["namespace"], labels=labels)
        return sorted(found, key=lambda o: (o["metadata"]["creationTimestamp"], o["metadata"]["name"]))

    def _open(self, path: str, query: Mapping[str, str], timeout: tuple[float, float] = (5.0, 60.0)) -> Any:
        """The answer to a GET, its body still to be read.

        Raises:
            ApiException: for any answer that is no success.
        """
        serialized = self._client.param_serialize(
            method="GET",
            resource_path=path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json, */*"},
            auth_settings=["BearerToken"],
        )
        response: Any = self._client.call_api(*serialized, _request_timeout=timeout)
        if not 200 <= response.status < 300:
            body = response.read().decode(errors="replace")
            raise ApiException(status=response.status, reason=response.reason, body=body)
        return response

    def _others(self) -> str:
        try:
            names = [s["metadata"]["name"] for s in self.studies()]
        except Denied:
            return ""
        if not names:
            return ", which has no study; -n names another namespace, and `status -A` shows all studies"
        return f", which has {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"


def parsed_study(obj: Json) -> OptimizationStudy:
    """A study as a document.

    Raises:
        Unreadable: when it is not as this version knows it.
    """
    return _parsed(OptimizationStudy, obj)


def parsed_trials(objects: Sequence[Json]) -> tuple[OptimizationTrial, ...]:
    """Records as documents, in number order, up to the first number that is missing.

    Raises:
        Unreadable: when one is not as this version knows it.
    """
    return unbroken(parsed_trial(obj) for obj in objects)


def unbroken(trials: Iterable[OptimizationTrial]) -> tuple[OptimizationTrial, ...]:
    """Records in number order, up to the first number that is missing."""
    found = sorted(trials, key=lambda t: t.number)
    return tuple(trial for place, trial in enumerate(found) if trial.number == place)


def parsed_trial(obj: Json) -> OptimizationTrial:
    """A record as a document.

    Raises:
        Unreadable: when it is not as this version knows it.
    """
    return _parsed(OptimizationTrial, obj)


def _parsed(kind: type[M], obj: Json) -> M:
    try:
        return kind.model_validate(obj)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Unreadable(
            f"{obj['metadata']['name']}: {where}: {first['msg']}; it was written by another version of "
            "Paretune: install the version of the cluster's operator"
        ) from error


def _namespace(file: str | None, context: str) -> str:
    contexts, active = config.list_kube_config_contexts(file)
    chosen = next((c for c in contexts if c["name"] == context), active) if context else active
    return str(((chosen or {}).get("context") or {}).get("namespace") or "")


def _in_cluster(error: ConfigException, file: str | None, context: str) -> tuple[Configuration, str]:
    """A pod without a kubeconfig has its service account, as kubectl does it."""
    if file is not None or context:
        raise NoCluster(f"{_sentence(error)}; `kubectl config get-contexts` shows what there is") from error
    try:
        settings = Configuration()
        config.load_incluster_config(client_configuration=settings)
        namespace = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace").read_text().strip()
    except (ConfigException, OSError):
        raise NoCluster(
            f"no cluster: {_sentence(error)}; set KUBECONFIG or give --kubeconfig FILE"
        ) from error
    return settings, namespace


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300]


class _sentences:  # noqa: N801  (a context manager that reads as a word)
    """Turns what the API server or the network said into a sentence."""

    def __init__(
        self, cluster: Cluster, resource: Resource, verb: str, namespace: str | None, what: str = ""
    ) -> None:
        self._server, self._verb, self._namespace = cluster.server, verb, namespace
        self._what = what or (f"{resource.plural}.{resource.group}" if resource.group else resource.plural)
        self._custom = resource in (STUDIES, TRIALS)

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        match error:
            case ApiError():
                raise self._of(error.status, error.message or error.reason) from error
            case ApiException():
                raise self._of(error.status or 0, _message(error)) from error
            case None | ReadingError():
                return
            case OSError():
                raise self._of(0, str(error)) from error
        if type(error).__module__.startswith("urllib3"):
            raise self._of(0, str(error)) from error

    def _of(self, status: int, message: str) -> ReadingError:
        where = f"in namespace {self._namespace}" if self._namespace else "in all namespaces"
        if status == 0:
            return NoAnswer(
                f"the API server at {self._server} does not answer ({_cause(message)}); is the cluster up, "
                "and is this the right --context?"
            )
        if status == 401:
            return Denied(
                f"the API server at {self._server} does not know these credentials; log in again, or choose "
                "another --context"
            )
        if status == 403:
            return Denied(
                f"you may not {self._verb} {self._what} {where}; ask for the role paretune-view there, or "
                "name another namespace with -n"
            )
        if status == 410:
            return NotFound(f"what {self._what} were is not known any more: {message[:300]}")
        if status == 404 and self._custom:
            return NotFound(
                f"the cluster at {self._server} does not know {self._what}; install Paretune's chart, or "
                "choose another --context"
            )
        return ReadingError(
            f"{self._verb} {self._what} {where}: the API server answered {status}: {message[:300]}"
        )


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body or "{}").get("message") or error.reason)
    except (ValueError, AttributeError, TypeError):
        return str(error.reason)


def _cause(message: str) -> str:
    """The end of urllib3's long sentences."""
    text = " ".join(message.split())
    for mark in ("[Errno", "certificate verify failed", "timed out"):
        if (found := text.find(mark)) >= 0:
            return text[found:].rstrip("')\"")[:160]
    return text[:160]


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line.strip())
