"""kopf's handlers: parse, wake, delegate. They write nothing to the objects they see.

Trial records are not watched: nobody but the operator writes them, and thousands would take more memory than
all else. That somebody takes one away is seen when they are listed, every minute.
"""

from typing import Any

import kopf

from ..api.meta import GROUP, VERSION
from ..cluster import names
from ..cluster.config import OperatorConfig
from .operator import Operator

SERVER_TIMEOUT = 300
"""Whole seconds after which the API server ends a watch, and it begins anew."""
OURS = f"{names.MANAGED_BY}={names.MANAGER}"


def registry(operator: Operator) -> kopf.OperatorRegistry:
    """Handlers that wake this operator."""
    found = kopf.OperatorRegistry()

    @kopf.on.startup(registry=found)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        configured(settings, operator.config)

    @kopf.on.login(registry=found)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(GROUP, VERSION, "optimizationstudies", registry=found)
    def study(event: Any, body: kopf.Body, **_: Any) -> None:
        operator.study_seen(dict(body), gone=event["type"] == "DELETED")

    @kopf.on.event(GROUP, VERSION, "devicepools", registry=found)
    def pool(event: Any, body: kopf.Body, **_: Any) -> None:
        operator.pool_seen(dict(body), gone=event["type"] == "DELETED")

    @kopf.on.event("batch", "v1", "jobs", labels={names.MANAGED_BY: names.MANAGER}, registry=found)
    def job(event: Any, body: kopf.Body, **_: Any) -> None:
        operator.job_seen(dict(body), gone=event["type"] == "DELETED")

    @kopf.on.event("v1", "pods", labels={names.STUDY: kopf.PRESENT}, registry=found)
    def pod(event: Any, body: kopf.Body, **_: Any) -> None:
        operator.pod_seen(dict(body), gone=event["type"] == "DELETED")

    return found


def configured(settings: kopf.OperatorSettings, config: OperatorConfig) -> None:
    """kopf as this operator wants it: nothing posted or stored, only our Jobs and pods watched."""
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = bool(config.namespaces)
    settings.watching.server_timeout = SERVER_TIMEOUT
    settings.watching.label_selectors[("batch", "v1", "jobs")] = OURS
    settings.watching.label_selectors[("v1", "pods")] = names.STUDY
    settings.queueing.worker_limit = None  # a bound below the number of objects stops kopf at the start
