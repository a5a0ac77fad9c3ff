"""Planted secrets are hidden, and nothing else."""

import pytest

from pretrain.secrets import is_secret, redacted, redacted_environment


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


def test_in_environments():
    values = {
        "MLFLOW_TRACKING_TOKEN": "hunter2", "HF_TOKEN": "hunter2", "AWS_SECRET_ACCESS_KEY": "hunter2",
        "PGPASSWORD": "x", "WANDB_API_KEY": "hunter2", "http_proxy": "http://me:hunter2@proxy:3128",
        "PATH": "/bin", "RANK": "0",
    }  # fmt: skip
    found = redacted_environment(values)
    assert "hunter2" not in str(found) and found["PGPASSWORD"] == "***"
    assert found["http_proxy"] == "http://***@proxy:3128"
    assert (found["PATH"], found["RANK"]) == ("/bin", "0")
    assert is_secret("my_api_key") and not is_secret("learning_rate")
