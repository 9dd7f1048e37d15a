"""Kubernetes Events on a study: what people want to know, in `kubectl describe` and `kubectl events`."""

import hashlib
import logging
from collections.abc import Callable
from datetime import datetime

from .api import EVENTS, AlreadyExists, Api, ApiError, Json

log = logging.getLogger(__name__)

MESSAGE_LIMIT = 1024
COMPONENT = "paretune-operator"


class Events:
    """Emits Events. One that cannot be written is logged: it must not stop a reconcile.

    Args:
        api: the API server.
        now: the time, in UTC.
    """

    def __init__(self, api: Api, now: Callable[[], datetime]) -> None:
        self._api, self._now = api, now

    def emit(self, about: Json, kind: str, reason: str, message: str) -> None:
        """Say something about an object.

        Args:
            about: the object.
            kind: `Normal` or `Warning`.
            reason: CamelCase, for machines.
            message: a sentence for people.
        """
        metadata, now = about["metadata"], self._now()
        text = message[:MESSAGE_LIMIT]
        # The same sentence within the same second is the same Event.
        name = hashlib.sha256(f"{metadata['uid']}{reason}{text}{now:%Y%m%d%H%M%S}".encode()).hexdigest()[:16]
        time = f"{now:%Y-%m-%dT%H:%M:%SZ}"
        event: Json = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{metadata['name'][:200]}.{name}",
                "namespace": metadata.get("namespace", "default"),
            },
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": metadata["name"],
                "namespace": metadata.get("namespace"),
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion"),
            },
            "type": kind,
            "reason": reason,
            "message": text,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
        }
        log.info("%s/%s: %s: %s", metadata.get("namespace"), metadata["name"], reason, text)
        try:
            self._api.create(EVENTS, event)
        except AlreadyExists:
            pass
        except ApiError as error:
            log.warning("%s: its Event %s could not be written: %s", metadata["name"], reason, error)
