"""`kubectl paretune`: studies in a cluster, read by the kubeconfig and the rights of whoever asks.

kubectl runs `kubectl-paretune` from the PATH for it.
https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/
"""

import click

from ...cluster.reading import NoCluster, NotFound, ReadingError
from ..errors import BadInput, Failed, ended
from .explain import explain
from .fetch import fetch
from .front import front
from .report import report
from .status import status


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 done, 2 bad input (no such study, context or trial), 3 nothing feasible, "
    "130 interrupted, 1 anything else. It reads and never writes to the cluster; the role paretune-view is "
    "enough, and for logs the right to get pods/log.",
)
@click.version_option(package_name="paretune", prog_name="kubectl paretune")
def kubectl_paretune() -> None:
    """See how studies on a cluster go, why a trial ended as it did, and bring their models home.

    \b
    kubectl paretune status -A              all studies that you may see
    kubectl paretune status kws --watch     one study, live, until it ends
    kubectl paretune explain kws 17         what happened to a trial
    kubectl paretune fetch kws knee         the best compromise, as kws-0042.tflite
    kubectl paretune report kws             one page with everything, to pass on
    kubectl paretune front kws -o json      front.json, for scripts
    """


for command in (status, explain, fetch, report, front):
    kubectl_paretune.add_command(command)


def main() -> None:
    """Entry point. Turns what went wrong into a sentence and an exit code."""
    ended(_run)


def _run() -> object:
    try:
        return kubectl_paretune.main(prog_name="kubectl paretune", standalone_mode=False)
    except (NoCluster, NotFound) as error:
        raise BadInput(str(error)) from error
    except ReadingError as error:
        raise Failed(str(error)) from error
