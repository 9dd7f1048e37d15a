"""kill -9 of the operator at any moment: nothing is lost, nothing runs twice, and the search replays.

tests/soak/kill_operator.py does it more often.
"""

from itertools import islice
from pathlib import Path

import pytest
from support.api_server import ApiServer
from support.killed_operator import killed_study, moments

pytestmark = [pytest.mark.usefixtures("definitions"), pytest.mark.timeout(1200)]

KILLS, TRIALS = 4, 20


@pytest.mark.parametrize("parallelism", [1, 4])
def test_a_killed_operator_loses_and_repeats_nothing(
    api: ApiServer, namespace: str, tmp_path: Path, parallelism: int
) -> None:
    with killed_study(api, namespace, tmp_path, parallelism=parallelism, count=TRIALS) as under_fire:
        kills = [under_fire.kill_after(seconds) for seconds in islice(moments(parallelism), KILLS)]
        assert [kill.faults for kill in kills] == [()] * KILLS
        assert under_fire.run_to_the_end(600) == ()
        if parallelism == 1:
            assert under_fire.differences() == ()
