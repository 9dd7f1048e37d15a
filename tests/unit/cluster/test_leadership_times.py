"""Times that do not go together are refused before anybody is asked."""

import pytest
from paretune.cluster.lease import Leadership


@pytest.mark.parametrize(("duration", "renew", "retry"), [(10, 10, 2), (15, 2, 2), (15, 10, 0)])
def test_times_of_a_lease_that_do_not_go_together_are_refused(duration: int, renew: int, retry: int) -> None:
    with pytest.raises(ValueError, match=f"duration {duration}, renew {renew}, retry {retry}; expected"):
        Leadership("l", "ns", "me", lambda: None, duration=duration, renew=renew, retry=retry)
