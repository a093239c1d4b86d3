"""``stepout doctor``: what will go wrong, before it does."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepout.cli.options import add_json, document_text
from stepout.cli.printing import print_json
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError
from stepout.schemas.runtime.s3_profile import is_aws_endpoint
from stepout.schemas.text.foreign_text import shown, shown_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stepout.doctor.findings import Document, Expectations, Finding, Looked

_EPILOG = """\
examples:
  stepout doctor machine.asl.json task-definition.json
  stepout doctor machine.asl.json task-definition.json lifecycle.json --longest-job 30h --stop-budget 60
  aws stepfunctions describe-state-machine --state-machine-arn … | stepout doctor -
  stepout doctor --state-machine arn:aws:states:… --task-definition job:7 --bucket results-bucket --prefix runs
  stepout doctor --subnets subnet-1 subnet-2
  stepout doctor --probe s3://results-bucket/runs     (writes, and removes it again: which STEPOUT_S3_PROFILE it needs)
  stepout doctor --rules                   (every rule, why it matters, and what to do)

What a file is, its content says:
  state machine     a definition (ASL), one Task state, or the answer of describe-state-machine, which adds the type and
                    the logging configuration
  task definition   what register-task-definition takes, or the answer of describe-task-definition
  bucket            the answer of get-bucket-lifecycle-configuration, get-bucket-versioning, get-bucket-encryption,
                    get-public-access-block or get-object-lock-configuration, or an object with several of them by
                    their names: {"GetBucketVersioning": {…}, …}
  network           the answers of describe-subnets, describe-route-tables and describe-vpc-endpoints, in one file or
                    in several
Files are held against each other: containers that a state names, heartbeats, timeouts, prefixes. Other JSON is skipped.
Without any, outcomes that could not be delivered and are kept in this machine's temporary folder are listed.

severities:
  error    it fails, hangs or loses data
  warning  it will hurt some day
  note     you should know it

Values of environment variables are never shown.

exit codes:
  0  no finding of the severity --fail-on, or worse
  1  there is one; or a file could not be read, or every file was skipped
  2  wrong arguments
"""

_NO_KIND = "skipped, it is neither a state machine, a task definition, a bucket's configuration nor a network"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
_FAIL_ON = ("error", "warning", "note", "never")
_LONGEST_LINE = 4_000
_SKIPPED, _UNDELIVERED = "SO902", "SO903"
_APART = (_SKIPPED, _UNDELIVERED)
"""Notes that say nothing of the documents that were looked at, and so fail nothing."""

_YAML = re.compile(r"\s*(?:- |[\w\"'.$-][\w \"'.$/-]*:(?:\s|$))")
_OURS_IN_YAML = re.compile(
    r"^[\s\"'-]*(?:StartAt|States|[Cc]ontainerDefinitions|Rules|Subnets|RouteTables|VpcEndpoints)[\"']?\s*:",
    re.MULTILINE,
)
_FROM_YAML = "python -c 'import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)'"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout doctor``."""
    parser.epilog = _EPILOG
    parser.add_argument("files", nargs="*", metavar="FILE", help="a JSON file to look at; - for standard input")
    _add_live(parser)
    _add_told(parser)
    parser.add_argument(
        "--fail-on",
        choices=_FAIL_ON,
        default="warning",
        help="end with exit code 1 if there is a finding of this severity or worse; default: warning",
    )
    parser.add_argument("--rules", action="store_true", help="print every rule and end")
    add_json(parser)
    parser.set_defaults(run=_doctor)


def _add_live(parser: argparse.ArgumentParser) -> None:
    """Declare what to look at in an account."""
    live = parser.add_argument_group("look in the account (boto3's credentials and region)")
    live.add_argument(
        "--state-machine", action="append", default=[], metavar="ARN", help="look at this state machine; repeatable"
    )
    live.add_argument(
        "--task-definition",
        action="append",
        default=[],
        metavar="ARN",
        help="look at this task definition, or family:revision; repeatable",
    )
    live.add_argument(
        "--bucket", action="append", default=[], metavar="NAME", help="look at this bucket's settings; repeatable"
    )
    live.add_argument("--vpc", metavar="ID", help="look at all subnets of this VPC")
    live.add_argument("--subnets", nargs="+", default=[], metavar="ID", help="look at these subnets")
    live.add_argument(
        "--probe",
        action="append",
        default=[],
        metavar="s3://BUCKET/PREFIX",
        help="try what the S3 server can do: write a few small objects there, stepout-trial-…, and remove them",
    )


def _add_told(parser: argparse.ArgumentParser) -> None:
    """Declare what no document says."""
    told = parser.add_argument_group("what documents do not say")
    told.add_argument(
        "--stop-budget", type=_duration, metavar="DURATION", help="how long uploads need after SIGTERM: 90, 90s, 2m"
    )
    told.add_argument(
        "--longest-job",
        type=_duration,
        metavar="DURATION",
        help="how long the longest job runs: 36h, 2d; default: the longest TimeoutSeconds in the files",
    )
    told.add_argument("--keep", type=_duration, metavar="DURATION", help="how long consumers need artifacts: 30d")
    told.add_argument(
        "--prefix",
        help="the prefix of artifacts in the bucket; default: STEPOUT_PREFIX in the files, else the whole bucket",
    )


def _duration(text: str) -> float:
    found = _DURATION.fullmatch(text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(f"expected a duration such as 90, 90s, 15m, 36h or 2d, got {text!r}")
    return float(found.group(1)) * _UNITS[found.group(2) or "s"]


def _doctor(arguments: argparse.Namespace) -> int:
    from stepout.doctor import examine

    if arguments.rules:
        return _print_rules(as_json=arguments.json)
    documents, unread = _gather(arguments)
    kept = [] if documents or unread else _undelivered()  # who asks about a file does not ask about this machine
    if not documents and not unread and not kept:
        raise ConfigurationError(
            "doctor: nothing to look at. Name a file, --state-machine, --task-definition, --bucket, --probe …"
        )
    findings = [*unread, *examine(documents, _expectations(arguments)), *kept]
    if arguments.json:
        print_json({"checked": _checked(documents), "findings": [finding.to_dict() for finding in findings]})
    else:
        _print(documents, findings)
    return 1 if _fails(documents, findings, arguments.fail_on) else 0


def _expectations(arguments: argparse.Namespace) -> Expectations:
    from stepout.doctor.findings import Expectations

    return Expectations(
        stop_budget=arguments.stop_budget,
        longest_job=arguments.longest_job,
        keep=arguments.keep,
        prefix=arguments.prefix,
    )


def _fails(documents: Sequence[Document], findings: Sequence[Finding], least: str) -> bool:
    """Whether something is bad enough; what could not be read is, whatever was asked, and that all was skipped."""
    from stepout.doctor.findings import SEVERITIES

    bad = SEVERITIES[: _FAIL_ON.index(least) + 1] if least != "never" else ()
    skipped = sum(finding.rule == _SKIPPED for finding in findings)
    if documents and skipped == len(documents):
        return True
    told = [finding for finding in findings if finding.rule not in _APART]
    return any(finding.severity in bad or finding.rule == "SO900" for finding in told)


def _undelivered() -> list[Finding]:
    from stepout.doctor.undelivered import undelivered_findings

    try:
        folder = Path(tempfile.gettempdir())
    except OSError:  # no such folder, so nothing is kept there
        return []
    return undelivered_findings(folder, time.time())


# What is looked at -------------------------------------------------------------------------------------------------


def _gather(arguments: argparse.Namespace) -> Looked:
    documents: list[Document] = []
    unread: list[Finding] = []
    for seen, missing in _looked(arguments):
        documents += seen
        unread += missing
    return documents, unread


def _looked(arguments: argparse.Namespace) -> Iterator[Looked]:
    """Yield what is seen in each file, and in each thing of the account that is named; boto3 is imported for these."""
    from stepout.doctor import account

    yield from map(_read, arguments.files)
    clients = _Clients()
    for arn in arguments.state_machine:
        yield account.look_state_machine(clients["stepfunctions"], arn)
    for name in arguments.task_definition:
        yield account.look_task_definition(clients["ecs"], name)
    for bucket in arguments.bucket:
        yield account.look_bucket(clients["s3"], bucket)
    yield from map(_probed, arguments.probe)
    if arguments.vpc or arguments.subnets:
        subnets = [each for each in ",".join(arguments.subnets).split(",") if each]
        yield account.look_network(clients["ec2"], vpc=arguments.vpc, subnets=subnets)


def _read(file: str) -> Looked:
    from stepout.doctor.findings import Document
    from stepout.doctor.rules import find
    from stepout.schemas.text.json_text import load_json

    source = "standard input" if file == "-" else "(argument)" if file.lstrip().startswith(("{", "[")) else file
    text: str | bytes = ""
    do = ""
    try:
        text = document_text(file)
        return [Document(source, load_json(text))], []
    except OSError as error:
        what = f"the file cannot be read: {error.strerror or type(error).__name__}"
    except InvalidDocumentError as error:
        what = f"this is no JSON: {error.problems[0] if error.problems else 'it cannot be parsed'}"
        if _is_yaml(text):
            if not _OURS_IN_YAML.search(_decoded(text)):
                return [Document(source, None)], []  # of another kind: skipped, as JSON of another kind is
            what, do = "this is YAML, and only JSON is read", _conversion(file)
    return [], [replace(find("SO900", "", what, do=do), source=source)]


def _decoded(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode("utf-8", "replace")


def _is_yaml(text: str | bytes) -> bool:
    """Whether the first line that says something is a member or an item of YAML."""
    lines = _decoded(text).removeprefix("\ufeff").splitlines()
    told = next((line for line in lines if line.strip() and not line.lstrip().startswith(("#", "---", "%YAML"))), "")
    return _YAML.match(told) is not None


def _conversion(file: str) -> str:
    """Say how YAML becomes JSON."""
    name = "" if file == "-" else shlex.quote(file)
    given = f" < {name}" if name else ""
    return (
        f"Convert it: yq -o=json . {name or '-'} | stepout doctor -, or, with PyYAML: {_FROM_YAML}{given} | "
        "stepout doctor -. What CloudFormation fills in (!Sub, !GetAtt) must be filled in before."
    )


def _probed(url: str) -> Looked:
    from stepout.artifacts.s3.clients import make_client, profile_named
    from stepout.doctor.probe import probe_server

    client = make_client()
    if not is_aws_endpoint(client.meta.endpoint_url):
        client = make_client(profile=profile_named("compatible"))
    return probe_server(client, url)


class _Clients(dict[str, Any]):
    """boto3 clients by service, each made when it is first used."""

    def __missing__(self, service: str) -> Any:
        import boto3
        from botocore.exceptions import BotoCoreError

        from stepout.schemas.runtime.regions import fallback_region

        try:
            region = boto3.session.Session().region_name or fallback_region(os.environ)
            self[service] = boto3.client(service, region_name=region)  # type: ignore[call-overload] # a variable
        except (BotoCoreError, ValueError) as error:
            why = f"doctor: no client for {service}: {str(error).removesuffix('.')}. Nothing was looked at"
            raise ConfigurationError(f"{why}. Set AWS_DEFAULT_REGION (and AWS_PROFILE), or give files") from None
        return self[service]


# What is printed ---------------------------------------------------------------------------------------------------


def _checked(documents: Sequence[Document]) -> list[dict[str, str | None]]:
    from stepout.doctor.examination import recognise

    return [{"source": document.source, "kind": recognise(document.value)} for document in documents]


def _print(documents: Sequence[Document], findings: Sequence[Finding]) -> None:
    from stepout.doctor.rules import RULES

    checked = _checked(documents)
    lines = [f"{each['source']}: {each['kind'] or _NO_KIND}" for each in checked]
    kept = [finding for finding in findings if finding.rule == _UNDELIVERED]
    for finding in findings:
        if finding.rule in _APART:
            continue
        lines += ["", f"{finding.severity} {finding.rule}  {finding.source}  {finding.where}".rstrip()]
        lines += [f"  {finding.what}.", f"  Why: {finding.why}", f"  Do: {finding.do}"]
        if finding.example is not None:
            lines.append(f"      {shown_json(json.dumps(finding.example, ensure_ascii=False))}")
    if kept:  # there may be many: what they have in common is said once
        lines += ["", f"{kept[0].severity} {_UNDELIVERED}  outcomes that were not delivered, on this machine"]
        lines += [f"  {finding.source}: {finding.what}" for finding in kept]
        lines += [f"  Why: {kept[0].why}", f"  Do: {RULES[_UNDELIVERED].do}"]
    lines += ["", _summary([each for each in findings if each.rule != _SKIPPED], checked)]
    for line in lines[0 if documents else 1 :]:
        sys.stdout.write(shown(line, _LONGEST_LINE) + "\n")


def _summary(findings: Sequence[Finding], checked: Sequence[dict[str, str | None]]) -> str:
    from stepout.doctor.findings import SEVERITIES

    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in SEVERITIES}
    said = [f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in counts.items() if count]
    skipped = sum(each["kind"] is None for each in checked)
    if skipped and skipped == len(checked):
        said.append("nothing was looked at")
    elif not said:
        said.append("nothing found")
    return ", ".join([*said, f"{skipped} skipped"] if skipped else said)


def _print_rules(*, as_json: bool) -> int:
    from stepout.doctor.rules import RULES

    if as_json:
        print_json({"rules": [rule.to_dict() for rule in RULES.values()]})
        return 0
    for rule in RULES.values():
        sys.stdout.write(f"{rule.id} {rule.severity}: {rule.title}\n  Why: {rule.why}\n  Do: {rule.do}\n")
    return 0
