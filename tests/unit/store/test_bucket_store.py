"""What only buckets do: keys of a Secret, faults in the middle, denied access, parts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from paretune_contract.failure import Reason, StageError
from paretune_store.bucket_client import Cause, cause_of
from paretune_store.bucket_store import BucketStore
from paretune_store.errors import Refused
from paretune_store.fetch import fetch
from paretune_store.retries import Patience
from support.fake_s3 import FakeS3

LIMIT = 100_000_000
PATIENCE = Patience(attempts=3, first_pause=0.01, timeout=20)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    found = FakeS3("bucket")
    yield found
    found.close()


def keys(s3: FakeS3, key: str = "AKIA", **more: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": s3.url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": "hunter2-and-more",
        **more,
    }


def bucket(s3: FakeS3, key: str = "AKIA", **more: str) -> BucketStore:
    return BucketStore("s3://bucket/pre", keys(s3, key, **more), PATIENCE)


def test_the_keys_of_the_secret_count_and_those_of_the_environment_do_not(
    s3: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the environment")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of the environment")
    bucket(s3).put_bytes("a", b"1")
    assert "Credential=AKIA/" in s3.requests[-1][2]
    assert s3.tokens == [None]
    bucket(s3, **{"AWS_SESSION_TOKEN": "of the secret"}).put_bytes("a", b"1")
    assert s3.tokens[-1] == "of the secret"
    assert s3.objects == {("bucket", "pre/a"): b"1"}


def test_without_a_secret_the_environment_counts(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in keys(s3, "ENVIRONMENT", AWS_ALLOW_HTTP="true").items():
        monkeypatch.setenv(name, value)
    BucketStore("s3://bucket", None, PATIENCE).put_bytes("a", b"1")
    assert "Credential=ENVIRONMENT/" in s3.requests[-1][2]


def test_a_denied_key_is_refused_at_once_and_without_the_secret(s3: FakeS3, tmp_path: Path) -> None:
    s3.key = "ANOTHER"
    store = bucket(s3)
    (tmp_path / "big").write_bytes(b"0" * (9 << 20))
    for method in (
        lambda: store.put_bytes("a", b"1"),
        lambda: store.put("a", tmp_path / "big"),
        lambda: store.get_bytes("a", LIMIT),
        lambda: store.exists("a"),
        lambda: store.list("a"),
        lambda: store.delete("a"),
    ):
        before = len(s3.requests)
        with pytest.raises(Refused, match="access denied") as caught:
            method()
        assert "s3://bucket/pre" in str(caught.value)
        assert "correct the credentials in the Secret of the store" in str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert len(s3.requests) - before == 1


def test_a_bucket_that_does_not_exist_is_not_an_object_that_does_not(s3: FakeS3) -> None:
    store = BucketStore("s3://nobucket", keys(s3), PATIENCE)
    for method in (
        lambda: store.put_bytes("a", b"1"),
        lambda: store.get_bytes("a", 9),
        lambda: store.list(""),
    ):
        with pytest.raises(Refused, match="there is no such bucket"):
            method()


def test_a_service_that_fails_for_a_moment_is_asked_again(s3: FakeS3, tmp_path: Path) -> None:
    store = bucket(s3)
    s3.faults = ["503", "500"]
    store.put_bytes("a", b"x" * 500_000)
    s3.faults = ["503", "cut"]
    store.get("a", tmp_path / "a", LIMIT)
    assert (tmp_path / "a").read_bytes() == b"x" * 500_000
    s3.faults = ["503"] * 9
    with pytest.raises(StageError) as caught:
        store.get_bytes("a", LIMIT)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert len(s3.faults) == 6


def test_a_large_upload_that_fails_leaves_no_object(s3: FakeS3, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"0" * (17 << 20))
    s3.faults = ["", "500", "500", "500", "500", "500", "500", "500", "500", "500"]
    with pytest.raises(StageError):
        bucket(s3).put("big", tmp_path / "big")
    assert s3.objects == {}
    s3.faults = []
    bucket(s3).put("big", tmp_path / "big")
    assert len(s3.objects["bucket", "pre/big"]) == 17 << 20


@pytest.mark.parametrize(
    ("uri", "credentials", "cause"),
    [
        ("bucket/prefix", {}, "it is no bucket; expected s3://BUCKET/PREFIX"),
        ("https://bucket", {}, "it is no bucket"),
        ("s3://b/a//b", {}, "its prefix is none"),
        ("s3://b", {}, "the Secret lacks AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; its keys are none"),
        ("s3://b", {"accesskey": "hunter2"}, "its keys are accesskey; add them to it"),
        (
            "s3://b",
            {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_BOGUS": "1"},
            "aws_bogus",
        ),
        (
            "gs://b",
            {"AWS_REGION": "x"},
            "the Secret lacks GOOGLE_SERVICE_ACCOUNT_KEY; its keys are AWS_REGION",
        ),
        ("gs://b", {"GOOGLE_APPLICATION_CREDENTIALS": '{"type": "authorized_user"}'}, "'authorized_user'"),
        ("gs://b", {"GOOGLE_SERVICE_ACCOUNT_KEY": "hunter2"}, "are 'no JSON object'"),
        ("gs://b", {"GOOGLE_SERVICE_ACCOUNT_KEY": '{"type": "service_account", "hunter2": 1}'}, "gs://b"),
    ],
)
def test_what_is_set_wrong_is_refused_with_its_cure(
    uri: str, credentials: dict[str, str], cause: str
) -> None:
    with pytest.raises(Refused) as caught:
        BucketStore(uri, credentials, PATIENCE)
    assert cause in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_model_and_data_may_have_different_secrets(s3: FakeS3, tmp_path: Path) -> None:
    s3.objects["bucket", "m.tflite"] = b"model"
    s3.key = "MODEL"
    path = fetch("s3://bucket/m.tflite", tmp_path, limit_bytes=LIMIT, credentials=keys(s3, "MODEL"))
    assert path.read_bytes() == b"model"
    with pytest.raises(StageError, match="access denied; credentials come from the Secret") as caught:
        fetch(
            "s3://bucket/m.tflite",
            tmp_path,
            limit_bytes=LIMIT,
            credentials=keys(s3, "DATA"),
            reason=Reason.DATA_UNREADABLE,
        )
    assert caught.value.reason is Reason.DATA_UNREADABLE
    with pytest.raises(StageError, match="the Secret lacks AWS_ACCESS_KEY_ID"):
        fetch("s3://bucket/m.tflite", tmp_path, limit_bytes=LIMIT, credentials={})


def test_a_machine_without_credentials_is_told_apart_from_a_service_that_is_down() -> None:
    from obstore import exceptions

    asked = "Error performing PUT http://169.254.169.254/latest/api/token in 1s - HTTP error"
    assert cause_of(exceptions.GenericError(asked)) is Cause.NO_CREDENTIALS
    assert cause_of(exceptions.GenericError("non-2xx status code: 503 Slow Down")) is Cause.NETWORK
    assert (
        cause_of(exceptions.GenericError("non-2xx status code: 400 Bad Request: ExpiredToken")) is Cause.WRONG
    )
    assert cause_of(exceptions.GenericError("an incorrectly configured region")) is Cause.WRONG
    assert cause_of(OSError("disk")) is None
