import pytest
from paretune.tracking.redact import redact, redact_text


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://reader:hunter2@host:5000/path", "https://***@host:5000/path"),
        ("https://host/model.keras?X-Amz-Signature=abc", "https://host/model.keras?***"),
        ("s3://bucket/model.keras", "s3://bucket/model.keras"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("postgresql://u:p%40ss@db/mlflow", "postgresql://***@db/mlflow"),
        ("/plain/path.tflite", "/plain/path.tflite"),
    ],
)
def test_a_uri_is_shown_without_its_secrets(uri: str, shown: str) -> None:
    assert redact(uri) == shown


def test_every_uri_in_an_error_message_is_redacted() -> None:
    text = "Pool: https://a:b@c.example/api?token=1 refused, /api/2.0/runs/search?filter=secret too"
    shown = redact_text(text)
    assert "a:b" not in shown
    assert "token=1" not in shown
    assert "filter=secret" not in shown
    assert "c.example" in shown
