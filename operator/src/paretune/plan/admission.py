"""Is a study accepted in this cluster? Checks in order; each gives a reason and a sentence, or nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from paretune_contract.settings import Scheme, SparsityEncoding

from ..api import DevicePool, OptimizationStudy, Runtime
from ..api.meta import LabelSelector
from ..api.study import DEFAULT_POOL, RUNNABLE, SPARSE_RUNTIMES, Device, DeviceStatus, QuantizationSpace

DEFAULT_DEVICE_POOL = "default"
"""The DevicePool on which the pool `cpu` and estimators run; the chart creates it."""
ESTIMATORS = frozenset({Runtime.ETHOS_U, Runtime.TFLM})


class Refusal(NamedTuple):
    """Why a study is not accepted: a machine reason and a sentence that names the field and the cure."""

    reason: str
    message: str


@dataclass(frozen=True)
class Cluster:
    """What decides on acceptance.

    Args:
        pools: every DevicePool by name.
        namespace_labels: labels of the study's namespace.
        claims: labels of the claims that the study names; None where there is no such claim.
        inline_pools: devices may be described in a study.
        servers: MLflow servers that the operator talks to.
        default_server: for studies that name none; may be empty.
    """

    pools: Mapping[str, DevicePool] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, Mapping[str, str] | None] = field(default_factory=dict)
    inline_pools: bool = False
    servers: tuple[str, ...] = ()
    default_server: str = ""


def refusal(study: OptimizationStudy, cluster: Cluster) -> Refusal | None:
    """The first reason against the study, or None."""
    checks: tuple[Callable[[OptimizationStudy, Cluster], Iterator[Refusal]], ...] = (
        _tracking,
        _pools,
        _runtimes,
        _claims,
    )
    return next((found for check in checks for found in check(study, cluster)), None)


def devices(study: OptimizationStudy, cluster: Cluster) -> dict[str, DeviceStatus]:
    """The study's devices with what their pools say. Call it for an accepted study."""
    found = {}
    for device in study.spec.effective_devices:
        pool = cluster.pools[_pool_name(device)].spec
        inline = device.pool is None
        found[device.name] = DeviceStatus(
            pool=_pool_name(device),
            runtime=(device.runtime or Runtime.LITERT) if inline else pool.runtime,
            target=device.target if inline else pool.target,
            threads=device.threads if inline or "threads" in device.model_fields_set else pool.threads,
        )
    return found


def server_of(study: OptimizationStudy, cluster: Cluster) -> str:
    """The study's MLflow server; empty: none."""
    return study.spec.tracking.uri or cluster.default_server


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """A label selector selects these labels; an empty one selects all."""
    if any(labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    return all(holds(rule.operator, labels.get(rule.key), rule.values) for rule in selector.match_expressions)


def holds(operator: str, value: str | None, values: Sequence[str]) -> bool:
    """One expression of a label selector, or of a node selector, which has Gt and Lt too."""
    plain = {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }
    if operator in plain:
        return plain[operator]
    try:
        number, bound = int(value or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return number > bound if operator == "Gt" else number < bound


def _pool_name(device: Device) -> str:
    return device.pool or DEFAULT_DEVICE_POOL


# --- checks -----------------------------------------------------------------------------------------------


def _tracking(study: OptimizationStudy, cluster: Cluster) -> Iterator[Refusal]:
    uri = server_of(study, cluster)
    known = ", ".join(cluster.servers) or "none"
    if uri and uri.rstrip("/") not in {server.rstrip("/") for server in cluster.servers}:
        yield Refusal(
            "TrackingNotAllowed",
            f"spec.tracking.uri: {uri} is not among the MLflow servers of this installation: {known}",
        )
    if not uri and not study.spec.artifacts.uri:
        yield Refusal(
            "NoStore",
            "spec.artifacts.uri: empty means MLflow's artifact store, but this installation has no default "
            f"MLflow server; give an s3, gs or pvc URI, or one of the servers in spec.tracking.uri: {known}",
        )


def _pools(study: OptimizationStudy, cluster: Cluster) -> Iterator[Refusal]:
    for i, device in enumerate(study.spec.effective_devices):
        path, name = f"spec.devices[{i}]", _pool_name(device)
        standard = device.name == DEFAULT_POOL and device.effective_runtime is Runtime.LITERT
        if device.pool is None and not (standard or cluster.inline_pools or device.runtime in ESTIMATORS):
            yield Refusal(
                "InlinePoolNotAllowed",
                f"{path}: device {device.name} names no pool, and this installation takes none that a "
                f"study describes; expected pool: one of {_names(cluster)}",
            )
        elif name not in cluster.pools:
            yield Refusal(
                "PoolNotFound",
                f"{path}.pool: there is no DevicePool {name}; there are {_names(cluster)}",
            )
        elif not selects(cluster.pools[name].spec.namespaces, cluster.namespace_labels):
            yield Refusal(
                "PoolNotAllowed",
                f"{path}.pool: the DevicePool {name} is not for the namespace {study.metadata.namespace}, "
                f"whose labels its spec.namespaces does not select; those that are: {_allowed(cluster)}",
            )


def _names(cluster: Cluster) -> str:
    return ", ".join(sorted(cluster.pools)) or "none"


def _allowed(cluster: Cluster) -> str:
    fit = [
        name
        for name, pool in sorted(cluster.pools.items())
        if selects(pool.spec.namespaces, cluster.namespace_labels)
    ]
    return ", ".join(fit) or "none"


def _runtimes(study: OptimizationStudy, cluster: Cluster) -> Iterator[Refusal]:
    """What the manifest lists by name must run on every device; what is left open is withheld."""
    if SparsityEncoding.SPARSE in study.spec.space.sparsity.encodings:
        for name, device in devices(study, cluster).items():
            if device.runtime not in SPARSE_RUNTIMES:
                yield Refusal(
                    "RuntimeMismatch",
                    f"spec.space.sparsity.encodings: device {name} (pool {device.pool}, runtime "
                    f"{device.runtime.value}) reads dense files only; leave sparse out",
                )
    schemes = study.spec.space.quantization.schemes
    if set(schemes) == set(QuantizationSpace().schemes):
        return
    for name, device in devices(study, cluster).items():
        wrong = [s.value for s in schemes if s is not Scheme.NONE and s not in RUNNABLE[device.runtime]]
        if wrong:
            able = ", ".join(s.value for s in Scheme if s in RUNNABLE[device.runtime])
            yield Refusal(
                "RuntimeMismatch",
                f"spec.space.quantization.schemes: device {name} (pool {device.pool}, runtime "
                f"{device.runtime.value}) cannot run {', '.join(wrong)}; it runs {able}",
            )


def _claims(study: OptimizationStudy, cluster: Cluster) -> Iterator[Refusal]:
    for name, labels in sorted(cluster.claims.items()):
        where = ", ".join(_naming(study, name)) or f"pvc://{name}"
        if labels is None:
            yield Refusal(
                "ClaimNotFound",
                f"{where}: there is no PersistentVolumeClaim {name} in the namespace "
                f"{study.metadata.namespace}; create it, or name another as pvc://CLAIM/PATH",
            )
        elif labels.get("paretune.dev/allow") != "true":
            yield Refusal(
                "ClaimNotAllowed",
                f'{where}: the PersistentVolumeClaim {name} has no label paretune.dev/allow: "true", so no '
                f"study may use it; kubectl label pvc {name} paretune.dev/allow=true, by who may",
            )


def _naming(study: OptimizationStudy, claim: str) -> Iterator[str]:
    """Fields of the study whose URI names this claim."""
    spec = study.spec
    uris = {"spec.artifacts.uri": spec.artifacts.uri, "spec.model.uri": spec.model.uri}
    for part in ("train", "calibration", "evaluation", "test"):
        source = getattr(spec.dataset, part)
        uris |= {f"spec.dataset.{part}.uri": source.uri} if source is not None else {}
    return (field for field, uri in uris.items() if f"{uri}/".startswith(f"pvc://{claim}/"))
