"""Rules on `spec.objectives`: metrics, their devices and their constraints."""

from collections.abc import Iterator

from paretune_contract.measurement import ACCURACY, AGREEMENT, LATENCY_RATIO, ROC_AUC

from ..faults import Fault, listed, suggestion
from ..metrics import BUILT_IN, Goal, Metric, Unit, in_unit
from .devices import device_names
from .plain import Plain, entries, text

_SHARES = (ACCURACY, ROC_AUC, AGREEMENT)
_ON_DEVICE = tuple(m.name for m in BUILT_IN.values() if m.on_device)
_MAXIMIZED_ONLY, _MINIMIZED_ONLY = ("atLeast", "maxDrop"), ("atMost", "maxRatio")
_CURES = {"atLeast": "atMost", "maxDrop": "maxRatio", "atMost": "atLeast", "maxRatio": "maxDrop"}


def objective_faults(spec: Plain) -> Iterator[Fault]:
    names = device_names(spec)
    first: dict[tuple[str, str | None], int] = {}
    for i, objective in entries(spec, "objectives"):
        at, name = f"spec.objectives[{i}]", text(objective, "metric")
        if name is None:
            continue
        yield from _metric_faults(at, name, objective)
        yield from _objective_device_faults(at, name, objective, names)
        yield from _constraint_faults(at, name, objective)
        device = text(objective, "device")
        if name in _ON_DEVICE and device is None and names is not None and len(names) == 1:
            device = names[0]
        if (name, device) in first:
            yield Fault(
                at, name, f"spec.objectives[{first[name, device]}] is the same; put all constraints in one"
            )
        first.setdefault((name, device), i)


def _metric_faults(at: str, name: str, objective: Plain) -> Iterator[Fault]:
    goal, metric = text(objective, "goal"), BUILT_IN.get(name)
    if metric is None and objective.get("goal") is None and "/" not in name:
        yield Fault(
            f"{at}.metric",
            name,
            f"not built in{suggestion(name, BUILT_IN) or '.'} Built in: {listed(BUILT_IN)}. A metric of your "
            "own (entry point in paretune.metrics) needs goal: minimize or maximize",
        )
    if metric is not None and goal in tuple(Goal) and goal != metric.goal:
        yield Fault(f"{at}.goal", goal, f"{name} is built in with goal {metric.goal.value}; leave it out")


def _objective_device_faults(
    at: str, name: str, objective: Plain, names: list[str] | None
) -> Iterator[Fault]:
    device = text(objective, "device")
    if name not in _ON_DEVICE:
        if device is not None and "/" not in name:
            yield Fault(
                f"{at}.device",
                device,
                f"{name} has one value for all devices; leave it out ({listed(_ON_DEVICE)} take a device)",
            )
    elif names is None:
        return
    elif device is not None and device not in names:
        yield Fault(
            f"{at}.device",
            device,
            f"no such device; expected one of spec.devices: {listed(names)}{suggestion(device, names)}",
        )
    elif objective.get("device") is None and len(names) > 1:
        yield Fault(
            f"{at}.device", None, f"is required where there are several; expected one of {listed(names)}"
        )


def _constraint_faults(at: str, name: str, objective: Plain) -> Iterator[Fault]:
    metric = _metric(name, objective)
    if metric is None:
        return
    wrong = _MAXIMIZED_ONLY if metric.goal is Goal.MINIMIZE else _MINIMIZED_ONLY
    for field in wrong:
        if objective.get(field) is not None:
            yield Fault(
                f"{at}.{field}",
                objective[field],
                f"{name} is {metric.goal.value}d, so that this says nothing; expected {_CURES[field]}",
            )
    if name == LATENCY_RATIO and objective.get("maxRatio") is not None:
        yield Fault(
            f"{at}.maxRatio", objective["maxRatio"], 'latencyRatio is a ratio already; expected atMost: "0.5"'
        )
    for field in ("atLeast", "maxDrop"):
        value = objective.get(field)
        if name in _SHARES and isinstance(value, int | float) and not 0 <= value <= 1:
            yield Fault(
                f"{at}.{field}", value, f"{name} lies between 0 and 1; expected such as {_share(field)}"
            )
    bound = objective.get("atMost")
    if metric.goal is Goal.MINIMIZE and isinstance(bound, int | str) and not isinstance(bound, bool):
        try:
            in_unit(bound, metric.unit)
        except ValueError as error:
            yield Fault(
                f"{at}.atMost", bound, f"{name} is compared with {str(error).partition(' is not ')[2]}"
            )


def _metric(name: str, objective: Plain) -> Metric | None:
    goal = text(objective, "goal")
    if name in BUILT_IN:
        return BUILT_IN[name]
    known = goal in tuple(Goal)
    return Metric(name, Goal(goal), Unit.NONE, False, "") if known and goal else None


def _share(field: str) -> str:
    return "0.97" if field == "atLeast" else "0.01 (one point)"
