"""Planted secrets are hidden, and nothing else."""

import pytest

from pretrain.runtime.redaction import is_secret, redacted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:hunter2@mlflow.example/api", "https://***@mlflow.example/api"),
        ("postgresql://me:hun:ter@db:5432/x", "postgresql://***@db:5432/x"),
        ("s3://bucket/a?X-Amz-Signature=hunter2&part=3", "s3://bucket/a?X-Amz-Signature=***&part=3"),
        ("http://h/?access_token=hunter2", "http://h/?access_token=***"),
        ("http://h/?x=1&sig=hunter2;y=2", "http://h/?x=1&sig=***;y=2"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("http://host:5000/#/experiments/1", "http://host:5000/#/experiments/1"),
        ("write to a@b.example", "write to a@b.example"),
    ],
)
def test_in_texts(text, expected):
    assert redacted(text) == expected


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "my_api_key"])
def test_names_of_secrets(name):
    assert is_secret(name)


@pytest.mark.parametrize("name", ["learning_rate", "PATH", "RANK", "http_proxy"])
def test_other_names(name):
    assert not is_secret(name)
