"""The doctor's look at a bucket's configuration: lifecycle, versions, encryption, public access, locks (SO5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepout.doctor.json_lookup import at, items, members, number, plain, shown, text
from stepout.doctor.rules import find

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.doctor.findings import Expectations, Finding

ANSWERS = {
    "GetBucketLifecycleConfiguration": "Rules",
    "GetBucketVersioning": "Status",
    "GetBucketEncryption": "ServerSideEncryptionConfiguration",
    "GetPublicAccessBlock": "PublicAccessBlockConfiguration",
    "GetObjectLockConfiguration": "ObjectLockConfiguration",
}
"""What S3 is asked, and the member by which a lone answer is recognised."""

PROBE = "ServerProbe"
"""The member under which a document holds what a trial of the server has shown."""

_DAY = 86_400
_SLOW_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def answers_of(document: object) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the answers that a document holds, by operation, each after its path.

    They may stand under the names of the operations (camel case or ``get-bucket-versioning``) or be a lone answer.
    """
    value = members(document)
    spelling = {name.lower(): name for name in ANSWERS}
    named = {
        spelling[key]: (str(name), members(answer))
        for name, answer in value.items()
        if (key := str(name).replace("-", "").replace("_", "").lower()) in spelling
    }
    lone = {name: ("", value) for name, member in ANSWERS.items() if member in value and _is_answer(member, value)}
    probe = {PROBE: (PROBE, members(value[PROBE]))} if isinstance(value.get(PROBE), dict) else {}
    return {**lone, **named, **probe}


def _is_answer(member: str, value: dict[str, Any]) -> bool:
    """Whether a lone answer is S3's: other services have Rules and a Status, too."""
    if member == "Status":
        return value[member] in ("Enabled", "Suspended")
    return member != "Rules" or all("Status" in members(rule) for rule in items(value[member]))


def bucket_findings(document: object, expected: Expectations) -> Iterator[Finding]:
    """Look at a bucket's configuration; what the document does not hold is not judged.

    Args:
        document: Answers of S3.
        expected: What they do not say themselves.
    """
    answers = answers_of(document)
    if found := answers.get("GetBucketLifecycleConfiguration"):
        yield from _lifecycle(*found, expected)
    if (found := answers.get("GetBucketVersioning")) and found[1].get("Status") != "Enabled":
        yield find("SO504", at(found[0], "Status"), "it is not Enabled")
    if found := answers.get("GetBucketEncryption"):
        yield from _encryption(*found)
    if found := answers.get("GetPublicAccessBlock"):
        blocked = members(found[1].get("PublicAccessBlockConfiguration"))
        if missing := [name for name in _BLOCKS if blocked.get(name) is not True]:
            where = at(found[0], "PublicAccessBlockConfiguration")
            yield find("SO505", where, f"{', '.join(missing)} off")
    if found := answers.get("GetObjectLockConfiguration"):
        yield from _lock(*found)
    if found := answers.get(PROBE):
        yield from _server(*found)


def _server(where: str, seen: dict[str, Any]) -> Iterator[Finding]:
    """Say what a server that was tried out does differently, and which profile it needs."""
    profile = shown(text(seen.get("profile")) or "aws")
    setting = {"STEPOUT_S3_PROFILE": profile}
    for rule, member, what in (
        ("SO509", "conditionalPut", "the second PutObject replaced the first"),
        ("SO509", "conditionalCompletion", "CompleteMultipartUpload replaced what was there"),
        ("SO510", "checksumHeaders", "a PutObject with x-amz-checksum-sha256 was refused, one without was not"),
        ("SO511", "fullObjectChecksums", "a multipart upload with a full-object checksum was refused"),
        ("SO512", "etagsRepeated", "a write was answered with one ETag, and GET with another"),
        ("SO513", "checksumsVerified", "a PutObject with a wrong checksum was taken"),
    ):
        if seen.get(member) is False:
            yield find(rule, at(where, member), what, example=None if rule == "SO513" else setting)
    yield find("SO514", at(where, "profile"), f"this server needs STEPOUT_S3_PROFILE={profile}", example=setting)


def _encryption(where: str, answer: dict[str, Any]) -> Iterator[Finding]:
    where = at(where, "ServerSideEncryptionConfiguration")
    rules = items(members(answer.get("ServerSideEncryptionConfiguration")).get("Rules"))
    for index, rule in enumerate(rules):
        default = members(members(rule).get("ApplyServerSideEncryptionByDefault"))
        if text(default.get("SSEAlgorithm")).startswith("aws:kms"):
            yield find("SO506", at(where, "Rules", index), "the default is a KMS key")


def _lock(where: str, answer: dict[str, Any]) -> Iterator[Finding]:
    where = at(where, "ObjectLockConfiguration")
    retention = members(members(members(answer.get("ObjectLockConfiguration")).get("Rule")).get("DefaultRetention"))
    if retention:
        kept = [f"{plain(retention[unit])} {unit.lower()}" for unit in ("Days", "Years") if number(retention.get(unit))]
        mode = shown(text(retention.get("Mode")) or "some")
        yield find("SO507", at(where, "Rule"), f"{mode} mode, {kept[0] if kept else 'some time'}")


# Lifecycle ---------------------------------------------------------------------------------------------------------


def _lifecycle(where: str, answer: dict[str, Any], expected: Expectations) -> Iterator[Finding]:
    prefix = f"{folder}/" if (folder := (expected.prefix or "").strip("/")) else ""
    rules = [
        (at(where, "Rules", index), members(rule))
        for index, rule in enumerate(items(answer.get("Rules")))
        if members(rule).get("Status") == "Enabled"
    ]
    yield from _aborts(at(where, "Rules"), rules, prefix, expected)
    for place, rule in rules:
        if prefix.startswith(_prefix(rule)) or _prefix(rule).startswith(prefix):
            yield from _expiry(place, rule, expected)
            yield from _moves(place, rule)


def _aborts(
    where: str, rules: list[tuple[str, dict[str, Any]]], prefix: str, expected: Expectations
) -> Iterator[Finding]:
    days = max(7, int((expected.longest_job or 0) // _DAY) + 2)
    example = {
        "ID": "incomplete-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": prefix},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
    }
    covered = False
    for place, rule in rules:
        after = number(members(rule.get("AbortIncompleteMultipartUpload")).get("DaysAfterInitiation"))
        if after is None or not (prefix.startswith(_prefix(rule)) or _prefix(rule).startswith(prefix)):
            continue
        covered = covered or prefix.startswith(_prefix(rule))
        if expected.longest_job is not None and after * _DAY <= expected.longest_job:
            what = f"after {plain(after)} days, and a job may run for {_days(expected.longest_job)} days"
            yield find("SO502", at(place, "AbortIncompleteMultipartUpload"), what, example=example)
    if not covered:
        what = f"no enabled rule covers {shown(prefix) if prefix else 'the whole bucket'}"
        yield find("SO501", where, what, example=example)


def _expiry(where: str, rule: dict[str, Any], expected: Expectations) -> Iterator[Finding]:
    expiration = members(rule.get("Expiration"))
    after, needed = number(expiration.get("Days")), expected.keep or expected.longest_job
    maybe = " (where its tags or sizes match)" if _is_partial(rule) else ""
    place = at(where, "Expiration")
    if "Date" in expiration:
        yield find("SO503", place, f"everything older than a fixed date is removed{maybe}", severity="warning")
    elif after is not None and needed is not None and after * _DAY <= needed:
        what = f"artifacts go after {plain(after)} days{maybe}, and are needed for {_days(needed)} days"
        yield find("SO503", place, what, example={"Expiration": {"Days": int(needed // _DAY) + 2}})
    elif after is not None and expected.keep is None:
        what = f"artifacts go after {plain(after)} days{maybe}; say with --keep how long consumers need them"
        yield find("SO503", place, what, severity="note")


def _moves(where: str, rule: dict[str, Any]) -> Iterator[Finding]:
    for index, move in enumerate(items(rule.get("Transitions"))):
        if (storage := text(members(move).get("StorageClass"))) in _SLOW_CLASSES:
            place, after = at(where, "Transitions", index), plain(members(move).get("Days"))
            yield find("SO508", place, f"to {storage} after {after} days")


def _prefix(rule: dict[str, Any]) -> str:
    chosen = members(rule.get("Filter"))
    return text(rule.get("Prefix")) or text(chosen.get("Prefix")) or text(members(chosen.get("And")).get("Prefix"))


def _is_partial(rule: dict[str, Any]) -> bool:
    chosen = members(rule.get("Filter"))
    return bool({"Tag", "And", "ObjectSizeGreaterThan", "ObjectSizeLessThan"} & set(chosen))


def _days(seconds: float) -> str:
    return f"{seconds / _DAY:.1f}".removesuffix(".0")
