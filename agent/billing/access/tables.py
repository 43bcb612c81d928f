"""The tables of who may do what: credentials, one-time tokens, certificates, operators, the audit log. No secret stands in them."""

from sqlalchemy import Column, Index, Integer, LargeBinary, Table, Text

from agent.billing.ledger.tables import METADATA

CREDENTIAL = Table(
    "credential",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("public", LargeBinary, nullable=False),
    Column("created", Text, nullable=False),
    Column("revoked", Text, nullable=False),
)
"""API keys and OAuth2 clients. Empty: `tenant` of one that stands for all, `device` of one that is no robot's, `secret_hash` of a
client that signs, `public` of one that doesn't, `revoked` of a good one."""

REGISTRATION = Table(
    "registration",
    METADATA,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("created", Text, nullable=False),
    Column("expires", Text, nullable=False),
    Column("used_device", Text, nullable=False),
    Column("used_key", LargeBinary, nullable=False),
    Column("credential", Text, nullable=False),
)
"""One-time tokens. Empty: `device` of one for any new robot of the tenant, `used_…` and `credential` of an unused one."""

ISSUED = Table(
    "issued",
    METADATA,
    Column("serial", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("authority", Text, nullable=False),
    Column("key_hash", LargeBinary, nullable=False),
    Column("certificate", Text, nullable=False),
    Column("issued", Text, nullable=False),
    Column("expires", Text, nullable=False),
    Column("revoked", Text, nullable=False),
    Index("issued_device", "tenant", "device"),
)
"""Certificates of devices, by serial in hex. `authority`: which one issued it; `revoked` is empty for a good one."""

OPERATOR = Table(
    "operator",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("public", LargeBinary, nullable=False),
    Column("added", Text, nullable=False),
)
"""Whose commands robots are to obey: raw Ed25519 keys. Robots learn them when they enrol, and later by their twin."""

AUDIT = Table(
    "audit",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("time", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("told", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)
"""Each line carries the hash of itself and the one before."""
