"""A study's status as it should stand. Pure: what is known in, status out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..api import OptimizationStudy, OptimizationTrial, State
from ..api.meta import Condition
from ..api.study import StudyStatus, TrialCounts
from ..plan.actions import Finish
from ..search.front import FrontDocument
from ..search.objectives import ResolvedObjective

READY, PROGRESSING, COMPLETE, FAILED = "Ready", "Progressing", "Complete", "Failed"
TRACKED, PUBLISHED = "Tracked", "Published"
ACTIVE_UNWRITTEN = 600.0
"""Seconds of active time that an operator which is killed forgets at most."""
Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class Fact:
    """One condition without its times."""

    type: str
    status: Truth
    reason: str
    message: str = ""


def with_conditions(status: StudyStatus, facts: Iterable[Fact], generation: int, now: str) -> StudyStatus:
    """The status with these conditions; the time of one moves only when its status does."""
    earlier = {c.type: c for c in status.conditions}
    for fact in facts:
        before = earlier.get(fact.type)
        same = before is not None and before.status == fact.status
        earlier[fact.type] = Condition(
            type=fact.type,
            status=fact.status,
            observed_generation=generation,
            last_transition_time=before.last_transition_time if before is not None and same else now,
            reason=fact.reason,
            message=fact.message,
        )
    return status.model_copy(
        update={"conditions": tuple(earlier.values()), "observed_generation": generation}
    )


def refused(reason: str, message: str) -> tuple[Fact, ...]:
    """Conditions of a study that is not accepted."""
    return (
        Fact(READY, "False", reason, message),
        Fact(PROGRESSING, "False", reason, message),
        Fact(COMPLETE, "False", reason),
        Fact(FAILED, "False", reason),
    )


def reading(message: str) -> tuple[Fact, ...]:
    """Conditions while model and data are being read."""
    return (
        Fact(READY, "Unknown", "Reading", message),
        Fact(PROGRESSING, "True", "Reading", message),
        Fact(COMPLETE, "False", "Reading"),
        Fact(FAILED, "False", "Reading"),
    )


def working(phase: str, finish: Finish | None, status: StudyStatus) -> tuple[Fact, ...]:
    """Conditions of an accepted study.

    Args:
        phase: what it does, as the plan says.
        finish: how it ended, or why it does not go on; None while it does.
        status: so far.
    """
    accepted = Fact(READY, "True", "Accepted", "Model, data and devices fit the study.")
    reason = phase.replace(" ", "") if phase[:1].isupper() else "Working"
    reason = "".join(word[:1].upper() + word[1:] for word in phase.split()) or reason
    if finish is None:
        if status.store is not None and status.store.failures:
            progress = Fact(PROGRESSING, "False", "StoreUnavailable", status.store.message)
        else:
            progress = Fact(PROGRESSING, "True", reason, f"{phase}: {status.progress} trials.")
        return (
            accepted,
            progress,
            Fact(COMPLETE, "False", reason),
            Fact(FAILED, "False", reason),
        )
    if finish.reason == "Suspended":
        return (
            accepted,
            Fact(PROGRESSING, "False", "Suspended", finish.message),
            Fact(COMPLETE, "False", "Suspended"),
            Fact(FAILED, "False", "Suspended"),
        )
    yes, no = (FAILED, COMPLETE) if finish.failed else (COMPLETE, FAILED)
    return (
        accepted,
        Fact(PROGRESSING, "False", finish.reason, finish.message),
        Fact(yes, "True", finish.reason, finish.message),
        Fact(no, "False", finish.reason),
    )


def counted(
    study: OptimizationStudy,
    status: StudyStatus,
    trials: Sequence[OptimizationTrial],
    objectives: Sequence[ResolvedObjective],
    front: FrontDocument | None,
) -> StudyStatus:
    """The status with numbers of trials, the front and the best of each objective."""
    states = [t.status.state for t in trials]
    final = sum(t.final for t in trials)
    update: dict[str, object] = {
        "progress": f"{final}/{max(study.spec.budget.trials, len(trials))}",
        "trials": TrialCounts(
            running=len(trials) - final,
            complete=states.count(State.COMPLETE),
            infeasible=states.count(State.INFEASIBLE),
            pruned=states.count(State.PRUNED),
            failed=states.count(State.FAILED),
            duplicate=front.counts.duplicate if front else 0,
        ),
    }
    if front is not None:
        update |= {
            "front": tuple(sorted(entry.trial for entry in front.front))[:256],
            "best": best(front, objectives),
            "hypervolume": front.hypervolume.value,
        }
    return status.model_copy(update=update)


def best(front: FrontDocument, objectives: Sequence[ResolvedObjective]) -> str:
    """`accuracy 0.985 (#20), downloadSize 9,801 B (#9)`; empty without a front."""
    parts = []
    for objective in objectives:
        members = [e for e in front.front if objective.name in e.metrics]
        if not members:
            continue
        leader = min(members, key=lambda e: objective.loss(e.metrics[objective.name].value))
        value = objective.show(leader.metrics[objective.name].value)
        parts.append(f"{objective.name} {value} (#{leader.trial})")
    return ", ".join(parts)


def changed(before: StudyStatus, after: StudyStatus) -> Literal["no", "progress", "state"]:
    """What a write of the status would tell: nothing, numbers that can wait, or a new state.

    That time has passed is nothing; it is written with what else there is to write, or when it is long.
    """
    passed = after.active_seconds - before.active_seconds
    if before == after.model_copy(update={"active_seconds": before.active_seconds}):
        return "progress" if passed >= ACTIVE_UNWRITTEN else "no"
    states = [
        (
            [(c.type, c.status, c.reason) for c in s.conditions],
            s.seed,
            s.intake,
            s.attempts,
            s.store,
            s.exhausted,
            s.published,
            s.retained,
            s.observed_generation,
        )
        for s in (before, after)
    ]
    return "progress" if states[0] == states[1] else "state"
