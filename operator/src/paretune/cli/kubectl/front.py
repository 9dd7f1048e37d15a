"""`kubectl paretune front`: front.json of a cluster's study."""

import click

from ...cluster.reading import Cluster
from ...search.objectives import resolve
from ..console import front_columns, front_table, result_console
from .options import as_text, in_cluster, output_option
from .study import read_study


@click.command(short_help="Print front.json of a study.")
@click.argument("study")
@output_option("json", "yaml", "table", "wide", default="json")
@in_cluster
def front(cluster: Cluster, study: str, form: str) -> None:
    """Print the front of STUDY: the same document as front.json of `paretune run`.

    It is made from the trial records as they are now, so it may change until the study ends. `path` of an
    artifact is below the study's prefix in the store, from where `kubectl paretune fetch` brings it.
    """
    read = read_study(cluster, study)
    document = read.need_front()
    if form in ("json", "yaml"):
        plain = document.model_dump(mode="json", by_alias=True, exclude_none=True)
        click.echo(as_text(plain, form))
        return
    names = [o.name for o in resolve(read.study.spec)]
    result_console().print(front_table(document, front_columns(document, names) if form == "wide" else names))
