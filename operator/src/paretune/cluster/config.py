"""What the chart tells the operator: one YAML file, read once at the start."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from paretune_contract.base import Document
from pydantic import Field, ValidationError

from ..api.meta import Resources


class ConfigError(Exception):
    """The configuration cannot be used; the message names the file, the field and what would be right."""


class Images(Document):
    """Images of the stages, as full references."""

    compress: str
    benchmark: str
    operator: str = Field(description="For the publish stage.")


class Lease(Document):
    """The Lease that the active operator holds."""

    name: str = "paretune-operator"
    namespace: str = "paretune-system"


class TrackingServer(Document):
    """An MLflow server that studies may name."""

    uri: str
    credentials_path: str = Field("", description="Folder of the operator's credentials for it.")


class TrackingConfig(Document):
    """MLflow servers that the operator talks to; a study that names another is not accepted."""

    servers: tuple[TrackingServer, ...] = ()
    default: str = Field("", description="For studies that name none.")


class Kueue(Document):
    """Whether Jobs are created suspended, with a queue's label."""

    enabled: bool = False


class CompressConfig(Document):
    """The compress container where a study says nothing."""

    resources: Resources = Resources(
        requests={"cpu": "1", "memory": "2Gi"}, limits={"cpu": "2", "memory": "4Gi"}
    )
    active_deadline_seconds: Annotated[int, Field(ge=60)] = 7200


class JobsConfig(Document):
    """What all Jobs have in common."""

    env: tuple[dict[str, Any], ...] = Field((), description="core/v1 EnvVar, such as a proxy.")
    ca_bundle_config_map: str = Field("", description="ConfigMap with ca.crt, in every study's namespace.")
    service_account_name: str = "default"
    priority_class_name: str = ""


class ReconcileConfig(Document):
    """How the operator works."""

    workers: Annotated[int, Field(ge=1, le=64)] = 4
    status_seconds: Annotated[float, Field(ge=0)] = Field(
        10.0, description="A running study's status is written at most this often."
    )


class OperatorConfig(Document):
    """The operator's configuration."""

    namespaces: tuple[str, ...] = Field((), description="Namespaces that are watched; empty: all.")
    images: Images
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    lease: Lease = Lease()
    tracking: TrackingConfig = TrackingConfig()
    allow_inline_pools: bool = False
    share_steps: bool = Field(False, description="Cached steps are shared between namespaces.")
    kueue: Kueue = Kueue()
    compress: CompressConfig = CompressConfig()
    jobs: JobsConfig = JobsConfig()
    reconcile: ReconcileConfig = ReconcileConfig()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


def read_config(path: Path) -> OperatorConfig:
    """The configuration in a file.

    Raises:
        ConfigError: when it cannot be read or has faults; all of them are named.
    """
    try:
        plain = yaml.safe_load(path.read_text())
        return OperatorConfig.model_validate(plain or {})
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no YAML: {error}") from error
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, e['loc'])) or 'all of it'}: {e['msg']}" for e in error.errors()]
        raise ConfigError("\n".join(lines)) from error
