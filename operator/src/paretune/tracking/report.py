"""report.html: one file that tells a colleague what a study found and how it was measured."""

import base64
import json
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from itertools import chain
from typing import Any

import yaml
from paretune_contract.measurement import Metrics
from paretune_contract.model import ModelInfo, TensorInfo
from paretune_contract.quantity import show_bytes

from ..api import OptimizationTrial, State
from ..search.front import aliases
from ..search.objectives import ResolvedObjective, resolve
from ..search.records import reported
from .curve import curve_svg
from .figures import figure_block
from .headline import headline
from .markup import Content, Markup, join, raw, tag
from .picture import front_png
from .progress import hypervolume_curve
from .redact import redact, redact_text
from .view import StudyView
from .wording import change, label, show, show_interval, shown_beside, versus


def report_html(view: StudyView) -> str:
    """The report as one HTML document; it loads nothing from anywhere, and needs nothing but the view.

    A view with `source` gets the table of the model's layers as well.
    """
    objectives = resolve(view.study.spec)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{view.name}: Pareto front"),
        tag("style", raw(_asset("report.css"))),
    )
    main = tag(
        "main",
        _header(view, objectives),
        _picture(view),
        _front_section(view, objectives),
        _explore(view),
        tag("div", _search_section(view), _measured_section(view), class_="columns"),
        _trials_section(view, objectives),
        _failures_section(view),
        _manifest_section(view),
        _model_section(view),
        _footer(view),
    )
    body = tag("body", main, tag("script", raw(_asset("report.js"))))
    return raw("<!doctype html>\n") + tag("html", head, body, lang="en")


@cache
def _asset(name: str) -> str:
    return files("paretune.tracking").joinpath("assets", name).read_text("utf-8")


# --- what was found ----------------------------------------------------------------------------------------


def _header(view: StudyView, objectives: tuple[ResolvedObjective, ...]) -> Markup:
    kind = "Optimization study" if view.ended else f"Optimization study, {view.state.lower() or 'running'}"
    return tag(
        "header",
        tag("p", kind, class_="kind"),
        tag("h1", view.name),
        tag("p", tag("strong", f"{headline(view)}."), class_="headline"),
        tag("p", _under_headline(view), class_="soft"),
        tag("div", *_tiles(view, objectives), class_="tiles"),
    )


def _under_headline(view: StudyView) -> str:
    model = f"{redact(view.model_uri)}: {view.model.parameters:,} parameters, {view.model.macs:,} MACs"
    knee = aliases(view.front).get("knee")
    if knee is None:
        return model
    words = next(t for t in view.trials if t.number == knee).settings.sentence()
    return f"That is trial {knee}, the knee of the front: {words}. Source model {model}."


def _tiles(view: StudyView, objectives: tuple[ResolvedObjective, ...]) -> Iterator[Markup]:
    """The best value that the front has for each objective."""
    baseline = view.front.baseline.metrics
    for objective in objectives:
        name = objective.name
        having = [entry for entry in view.front.front if name in entry.metrics]
        if not having:
            continue
        best = min(having, key=lambda entry: objective.loss(entry.metrics[name].value))
        value = best.metrics[name].value
        against = versus(name, best.metrics, baseline)
        yield tag(
            "div",
            tag("div", f"Best {label(name)}", class_="label"),
            tag("div", show(name, value), class_="value"),
            tag(
                "div", f"{against} · trial {best.trial}" if against else f"trial {best.trial}", class_="than"
            ),
            class_="tile",
        )
    counts = view.front.counts
    yield tag(
        "div",
        tag("div", "Trials", class_="label"),
        tag("div", str(len(view.trials)), class_="value"),
        tag("div", f"{counts.complete} complete · {len(view.front.front)} on the front", class_="than"),
        class_="tile",
    )


def _picture(view: StudyView) -> Markup:
    light, dark = (_data_uri(front_png(view, dark=dark)) for dark in (False, True))
    picture = tag(
        "picture",
        tag("source", srcset=dark, media="(prefers-color-scheme: dark)"),
        tag(
            "img", src=light, alt="The Pareto front: each numbered point is a model that no other one beats."
        ),
    )
    caption = (
        "Each numbered point is a model that no other one beats in every objective. The ring is "
        "the knee; bars are 95% intervals, of the models with a name; dashed lines are the constraints."
    )
    return tag("section", tag("figure", picture, tag("figcaption", caption)))


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _explore(view: StudyView) -> Markup:
    return tag(
        "section",
        tag("h2", "Explore"),
        tag(
            "p",
            "Point at a trial for its settings and metrics; drag to zoom, double-click to see all.",
            class_="note soft",
        ),
        figure_block(view),
        class_="interactive",
    )


def _front_section(view: StudyView, objectives: tuple[ResolvedObjective, ...]) -> Markup:
    if not view.front.front:
        return tag("section", tag("h2", "The front"), tag("p", "No trial met every constraint."))
    baseline = view.front.baseline
    names = _metric_names(objectives, chain([baseline.metrics], (e.metrics for e in view.front.front)))
    tests = _metric_names(objectives, (entry.test or {} for entry in view.front.front))
    goals = {objective.name: objective for objective in objectives}
    trials = {trial.number: trial for trial in view.trials}
    marks: dict[int, list[str]] = {}
    for alias, number in aliases(view.front).items():
        marks.setdefault(number, []).append(alias)
    heads = [
        _th("Trial", number=True),
        _th("Settings"),
        *(_th(_capital(label(n)), number=True) for n in names),
    ]
    heads += [*(_th(f"Test {label(n)}", number=True) for n in tests), _th("File")]
    rows = []
    if baseline.trial not in {entry.trial for entry in view.front.front}:
        first = trials.get(baseline.trial)
        final = first.status.final if first else None
        rows.append(
            tag(
                "tr",
                _number(str(baseline.trial), baseline.trial),
                tag("td", "baseline"),
                *(_metric_cell(n, baseline.metrics, {}, None) for n in names),
                *(_metric_cell(n, final.test if final else {}, {}, None) for n in tests),
                _file_cell(first.status.artifact.sha256 if first and first.status.artifact else "", None),
                class_="baseline",
            )
        )
    for entry in view.front.front:
        words = trials[entry.trial].settings.sentence() if entry.trial in trials else ""
        named = marks.get(entry.trial, [])
        pills = [tag("span", m, class_=f"mark {m}") for m in named]
        base = {} if entry.trial == baseline.trial else baseline.metrics
        rows.append(
            tag(
                "tr",
                _number(str(entry.trial), entry.trial),
                tag("td", words, *([tag("br")] if pills else []), *pills, class_="words"),
                *(_metric_cell(n, entry.metrics, base, goals.get(n)) for n in names),
                *(_metric_cell(n, entry.test or {}, {}, None) for n in tests),
                _file_cell(entry.artifact.sha256, entry.artifact.path),
                class_="knee" if "knee" in named else None,
            )
        )
    note = "Small print: 95% interval, and the value against the baseline."
    if view.artifacts:
        note += " Files are beside front.json."
    return tag(
        "section",
        tag("h2", "The front"),
        _scrolling(tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), class_="sortable")),
        tag("p", note, class_="note soft"),
    )


def _metric_cell(
    name: str, metrics: Metrics, baseline: Metrics, objective: ResolvedObjective | None
) -> Markup:
    found = metrics.get(name)
    if found is None:
        return _number("", "")
    parts: list[Content] = [show(name, found.value)]
    if baseline and (against := versus(name, metrics, baseline)):
        tone = None
        if objective is not None and (difference := change(name, metrics, baseline)):
            tone = "good" if (difference < 0) == objective.minimized else "bad"
        parts.append(tag("small", tag("span", against, class_=tone)))
    if between := show_interval(name, found):
        parts.append(tag("small", between))
    return tag("td", *parts, class_="number", data_value=repr(found.value))


def _file_cell(sha: str, path: str | None) -> Markup:
    return tag(
        "td", tag("code", sha[:12], title=sha), *([tag("small", path)] if path and sha not in path else [])
    )


# --- how the search went -----------------------------------------------------------------------------------


def _search_section(view: StudyView) -> Markup:
    counts, volume = view.front.counts, view.front.hypervolume
    words = (
        f"{len(view.trials)} trials: {counts.complete} complete, {counts.infeasible} infeasible, "
        f"{counts.pruned} pruned, {counts.failed} failed."
    )
    if counts.duplicate:
        words += f" {counts.duplicate} gave the bytes of an earlier one and were not measured again."
    reference = ", ".join(f"{label(name)} {value:.4g}" for name, value in volume.reference.items())
    caption = (
        f"Share of the box from the reference point ({reference}) down to 0 that the front dominates. The "
        "curve is by what the search saw; the number is by the values reported."
    )
    return tag(
        "section",
        tag("h2", "The search"),
        tag("p", words),
        tag("h3", f"Hypervolume {volume.value:.4f}"),
        tag("figure", curve_svg(hypervolume_curve(view)), tag("figcaption", caption)),
        *_cost_table(view),
    )


def _cost_table(view: StudyView) -> Iterator[Markup]:
    """Where the time went, by step."""
    costs: dict[str, list[float]] = {}
    cached: dict[str, int] = {}
    spared: dict[str, float] = {}
    for trial in view.trials:
        for step in trial.status.steps:
            costs.setdefault(step.name, []).append(step.seconds)
            cached[step.name] = cached.get(step.name, 0) + step.cached
            spared[step.name] = spared.get(step.name, 0.0) + step.spared
    if not costs:
        return
    yield tag("h3", "Where the time went")
    whole = sum(map(sum, costs.values()))
    if saved := sum(spared.values()):
        words = f"Steps took {whole:,.0f} s; those from the cache would have taken {saved:,.0f} s more."
        yield tag("p", words)
    numbers = (_th(h, number=True) for h in ("Times", "From cache", "Seconds", "Spared"))
    heads = tag("tr", _th("Step"), *numbers)
    rows = [
        tag(
            "tr",
            tag("td", name),
            _number(str(len(costs[name])), len(costs[name])),
            _number(str(cached[name]), cached[name]),
            _number(f"{sum(costs[name]):,.1f}", sum(costs[name])),
            _number(f"{spared[name]:,.1f}", spared[name]),
        )
        for name in sorted(costs, key=lambda n: -sum(costs[n]))
    ]
    yield _scrolling(tag("table", tag("thead", heads), tag("tbody", *rows), class_="sortable"))


def _measured_section(view: StudyView) -> Markup:
    parts: list[Content] = [tag("h2", "How it was measured")]
    for pool, facts in _pools(view).items():
        parts += [tag("h3", f"Device {pool}"), _definitions(facts)]
    noisy = sorted({t.number for t in view.finals() if any(_noisy(t))})
    if noisy:
        numbers = ", ".join(map(str, noisy))
        parts.append(
            tag(
                "p",
                f"Noisy, the interval of the ratio stayed wider than asked for: trials {numbers}.",
                class_="note bad",
            )
        )
    if coder := next((t.status.coder for t in view.trials if t.status.coder), ""):
        parts += [
            tag("h3", "Sizes"),
            _definitions({"model size": "bytes of the .tflite", "download size": f"after {coder}"}),
        ]
    evaluations = [t.status.evaluation for t in view.trials if t.status.evaluation]
    if evaluations:
        whole = max(evaluations, key=lambda e: e.of)
        facts = {
            "samples": f"{whole.of:,} of the split {whole.split.value}",
            "interval": "95%, Wilson for proportions",
        }
        cut_short = [
            t.number for t in view.trials if t.status.evaluation and not t.status.evaluation.complete
        ]
        if cut_short:
            facts["stopped early"] = f"for time, trials {', '.join(map(str, cut_short))}"
        parts += [tag("h3", "Quality"), _definitions(facts)]
    if view.notes:
        parts += [tag("h3", "Notes"), tag("ul", *(tag("li", redact_text(note)) for note in view.notes))]
    parts += [tag("h3", "Versions"), _definitions(_versions(view))]
    return tag("section", *parts)


def _noisy(trial: OptimizationTrial) -> Iterator[bool]:
    pools = (
        trial.status.final.pools if trial.status.final and trial.status.final.pools else trial.status.pools
    )
    for measured in pools.values():
        yield bool(measured.latency and measured.latency.noisy)


def _pools(view: StudyView) -> dict[str, dict[str, str]]:
    """Facts about each pool; where nodes differ, all of them are named."""
    facts: dict[str, dict[str, dict[str, None]]] = {}
    rounds: dict[str, list[int]] = {}
    for trial in view.trials:
        final = trial.status.final
        for pool, measured in [*trial.status.pools.items(), *(final.pools.items() if final else ())]:
            found = facts.setdefault(pool, {})
            if environment := measured.environment:
                for key, value in {
                    "node": environment.node,
                    "CPU": f"{environment.cpu}, {environment.architecture}, {environment.cores} cores",
                    "runtime": environment.runtime,
                    "threads": str(environment.threads),
                    "system": environment.system,
                }.items():
                    found.setdefault(key, {})[value] = None
            if measured.latency:
                found.setdefault("statistic", {})[
                    f"{measured.latency.statistic} of one inference at batch 1"
                ] = None
                rounds.setdefault(pool, []).append(measured.latency.rounds)
    out = {pool: {key: "; ".join(values) for key, values in found.items()} for pool, found in facts.items()}
    for pool, counted in rounds.items():
        number = f"{min(counted)}" if min(counted) == max(counted) else f"{min(counted)} to {max(counted)}"
        out[pool]["rounds"] = f"{number}, interleaved with the reference in random order"
    return out


def _versions(view: StudyView) -> dict[str, str]:
    python = next(
        (m.environment.python for t in view.trials for m in t.status.pools.values() if m.environment), ""
    )
    facts = {
        "paretune": version("paretune"),
        "python": python,
        "search seed": str(view.seed),
        "study uid": view.uid,
    }
    return {key: value for key, value in facts.items() if value}


# --- all trials --------------------------------------------------------------------------------------------


def _trials_section(view: StudyView, objectives: tuple[ResolvedObjective, ...]) -> Markup:
    names = _metric_names(objectives, (reported(t) for t in view.trials))
    front = {entry.trial for entry in view.front.front}
    heads = [
        _th("Trial", number=True),
        _th("State"),
        _th("Settings"),
        *(_th(_capital(label(n)), number=True) for n in names),
    ]
    heads += [_th("Seconds", number=True), _th("Why")]
    rows = []
    for trial in view.trials:
        status, metrics = trial.status, reported(trial)
        seconds = sum(step.seconds for step in status.steps)
        state = tag("span", status.state.value, class_=f"state {status.state.value}")
        mark = tag("span", "front", class_="mark") if trial.number in front else None
        rows.append(
            tag(
                "tr",
                _number(str(trial.number), trial.number),
                tag("td", state, *([raw(" "), mark] if mark else [])),
                tag("td", trial.settings.sentence(), class_="words"),
                *(_plain_cell(n, metrics) for n in names),
                _number(f"{seconds:,.1f}" if status.steps else "", seconds if status.steps else ""),
                tag("td", redact_text(status.message) or status.reason, class_="soft why"),
            )
        )
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), class_="sortable")
    summary = tag("summary", f"All {len(view.trials)} trials")
    return tag("section", tag("details", summary, _scrolling(table), open="open"))


def _plain_cell(name: str, metrics: Metrics) -> Markup:
    found = metrics.get(name)
    return _number(show(name, found.value) if found else "", repr(found.value) if found else "")


def _failures_section(view: StudyView) -> Markup | None:
    failed = [t for t in view.finals() if t.status.state is State.FAILED]
    if not failed:
        return None
    rows = [
        tag(
            "tr",
            _number(str(t.number), t.number),
            tag("td", t.settings.sentence()),
            tag("td", tag("code", t.status.reason)),
            tag("td", redact_text(t.status.message)),
        )
        for t in failed
    ]
    heads = tag("tr", _th("Trial", number=True), _th("Settings"), _th("Reason"), _th("Message"))
    note = tag("p", "paretune explain TRIAL shows the log's tail.", class_="note soft")
    return tag(
        "section",
        tag("h2", f"Failures ({len(failed)})"),
        _scrolling(tag("table", tag("thead", heads), tag("tbody", *rows))),
        *([note] if view.artifacts else []),
    )


# --- the study ---------------------------------------------------------------------------------------------


def _manifest_section(view: StudyView) -> Markup:
    plain = view.study.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    document = {"apiVersion": view.study.api_version, "kind": view.study.kind, **_without_secrets(plain)}
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    return tag("section", tag("details", tag("summary", "The manifest"), tag("pre", text)))


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            k: redact(v) if k == "uri" and isinstance(v, str) else _without_secrets(v)
            for k, v in value.items()
        }
    return [_without_secrets(v) for v in value] if isinstance(value, list) else value


def _model_section(view: StudyView) -> Markup:
    model, source = view.model, view.source
    facts = {
        "source": redact(view.model_uri),
        "format": model.format.value,
        "sha256": model.source_sha256,
        "float .tflite": show_bytes(model.bytes),
    }
    if source is None:
        facts |= {"parameters": f"{model.parameters:,}", "multiply-accumulates": f"{model.macs:,}"}
    else:
        facts |= {"inputs": _ports(source.inputs), "outputs": _ports(source.outputs)}
    summary = tag("summary", f"The source model: {model.layers} layers with weights")
    layers = _layers(source) if source else ()
    return tag("section", tag("details", summary, _definitions(facts), *layers))


def _ports(ports: tuple[TensorInfo, ...]) -> str:
    return "; ".join(f"{t.name} {json.dumps(list(t.shape))} {t.dtype}" for t in ports)


def _layers(model: ModelInfo) -> Iterator[Markup]:
    heads = ["Layer", "Operator", "Weights", "Shape", "Multiply-accumulates", "Can be"]
    numeric = {"Weights", "Multiply-accumulates"}
    rows = [
        tag(
            "tr",
            tag("td", layer.name),
            tag("td", tag("code", layer.operator)),
            _number(f"{layer.weights:,}", layer.weights),
            tag("td", " × ".join(map(str, layer.weight_shape))),
            _number(f"{layer.macs:,}", layer.macs),
            tag(
                "td",
                ", ".join(
                    word
                    for word, able in (
                        ("trained", layer.trainable),
                        ("pruned", layer.prunable),
                        ("clustered", layer.clusterable),
                        ("int4", layer.int4),
                    )
                    if able
                ),
                class_="soft",
            ),
        )
        for layer in model.layers
    ]
    table = tag(
        "table",
        tag("thead", tag("tr", *(_th(h, number=h in numeric) for h in heads))),
        tag("tbody", *rows),
        class_="sortable",
    )
    yield tag("h3", "Layers")
    yield _scrolling(table)


def _footer(view: StudyView) -> Markup:
    finished = max((t.status.finished for t in view.trials), default="")
    when = f", last trial {finished[:16].replace('T', ' ')} UTC" if finished else ""
    return tag(
        "footer",
        f"Written by Paretune {version('paretune')}{when}. The same numbers for machines are in front.json.",
    )


# --- small parts -------------------------------------------------------------------------------------------


def _metric_names(objectives: tuple[ResolvedObjective, ...], found: Any) -> list[str]:
    """Objectives first, then what was measured beside them."""
    present = list(dict.fromkeys(name for metrics in found for name in metrics))
    first = [objective.name for objective in objectives if objective.name in present]
    return shown_beside(first + [name for name in present if name not in first])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _th(text: str, *, number: bool = False) -> Markup:
    return tag("th", text, scope="col", class_="number" if number else None)


def _number(text: str, value: float | str) -> Markup:
    return tag("td", text, class_="number", data_value=str(value))


def _definitions(facts: dict[str, str]) -> Markup:
    return tag("dl", *(join(tag("dt", key), tag("dd", value)) for key, value in facts.items()))


def _scrolling(table: Markup) -> Markup:
    return tag("div", table, class_="scroll")
