"""`paretune replay`: is every suggestion what the sampler says it is?"""

import json
from pathlib import Path

import click
from paretune_contract.summary import summarize

from ..local.accept import runtimes
from ..local.pools import drop_devices
from ..local.workdir import DamagedRecord
from ..search.objectives import resolve
from ..search.replay import Difference
from ..search.replay import replay as recompute
from ..search.space import available
from .errors import BadInput, Failed
from .workdir_option import existing


@click.command()
@click.argument("workdir", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
def replay(workdir: Path, as_json: bool) -> None:
    """Recompute every suggestion of the study in WORKDIR from the results that it knew.

    Ends with exit code 1 at the first trial whose settings differ.
    """
    work, state = existing(workdir)
    intake = work.read_intake()
    if intake is None:
        raise BadInput(f"{workdir}: no intake.json; the study has not begun")
    try:
        trials = work.read_trials()
    except DamagedRecord as error:
        raise BadInput(str(error)) from error
    spec = drop_devices(work.read_study().spec, state.without)
    space = available(spec, summarize(intake), runtimes(state.pools))
    count = 0
    for outcome in recompute(space, resolve(spec), state.seed, spec.search.sampler, trials):
        if isinstance(outcome, Difference):
            if as_json:
                click.echo(json.dumps({"equal": count, "differs": outcome.number}))
            raise Failed(str(outcome))
        count += 1
    if as_json:
        click.echo(json.dumps({"equal": count, "differs": None}))
    else:
        click.echo(f"{count} suggestions recomputed, all equal")
