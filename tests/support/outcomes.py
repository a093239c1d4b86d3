"""What the tests of pull mode share: tables for outcomes."""

from __future__ import annotations

from typing import Any

__all__ = ["make_table"]


def make_table(client: Any, name: str, key: str) -> None:
    """Create a table with a text as its partition key."""
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
