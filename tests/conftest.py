"""What a run of the tests says at its end."""

import pytest
from controlplane.build import NOT_RUN


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    unrun = [text for text in skipped if NOT_RUN in text]
    if unrun:
        terminalreporter.section("tests/cluster DID NOT RUN", sep="!", red=True, bold=True)
        terminalreporter.line(
            f"{len(unrun)} tests need a Kubernetes API server. Put Go on PATH and run `make controlplane` "
            "(minutes, once), or let PARETUNE_CONTROLPLANE name a folder with its binaries, or "
            "PARETUNE_TEST_KUBECONFIG a cluster that tests may fill with namespaces, nodes and definitions.",
            red=True,
        )
