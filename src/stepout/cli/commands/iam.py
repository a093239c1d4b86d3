"""``stepout iam``: least-privilege policies for each role that takes part."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from stepout.asl.states import unfilled
from stepout.cli.options import option_of
from stepout.cli.printing import print_json
from stepout.iam import MACHINE_KINDS, ROLES, Scope, policy
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse

_EXAMPLES = """\
examples:
  stepout iam producer --bucket results-bucket --prefix runs
  stepout iam producer --bucket results-bucket --prefix runs --queue reports      (reports through a relay)
  stepout iam consumer --bucket results-bucket --prefix runs
  stepout iam viewer --bucket results-bucket --prefix runs --state-machine scenes
  stepout iam machine --kind ecs --cluster jobs --task-definition mask --pass-role mask-task --pass-role ecs-execution
  stepout iam machine --kind map --state-machine scenes --bucket results-bucket --prefix runs

One role may need several policies. A container that reads the output before it and writes its own: producer and
consumer. A state machine: one machine policy for each kind of its states, and --kind map for a Distributed Map. A
function: also the right to write its logs.

Names become ARNs with --region and --account; without them, with CloudFormation's ${AWS::Region} and
${AWS::AccountId}. What you leave out becomes a placeholder, which standard error lists. "*" stands where IAM knows no
resource: states:SendTask*, batch:DescribeJobs.
"""

# Which roles have a use for an option.
_NAMES: dict[str, tuple[str, ...]] = {
    "bucket": ("producer", "consumer", "worker", "machine", "gc", "viewer"),
    "prefix": ("producer", "consumer", "worker", "machine", "gc", "viewer"),
    "kms_key": ("producer", "consumer", "worker", "machine", "gc", "viewer"),
    "queue": ("producer", "relay", "watcher", "worker", "machine"),
    "table": ("producer", "consumer", "worker", "viewer"),
    "token_table": ("producer", "watcher", "worker"),
    "topic": ("producer", "worker"),
    "bus": ("producer", "worker"),
    "activity": ("worker",),
    "cluster": ("watcher", "machine"),
    "task_definition": ("machine",),
    "function": ("machine",),
    "job_queue": ("machine",),
    "job_definition": ("machine",),
    "job": ("machine",),
    "state_machine": ("machine", "viewer"),
}
_WHAT: dict[str, str] = {
    "bucket": "the bucket of the artifacts",
    "prefix": "the folder in the bucket",
    "kms_key": "the ARN of the key that encrypts the bucket",
    "queue": "the queue of the jobs (worker, machine) or of the reports (producer, relay, watcher); also a URL",
    "table": "the DynamoDB table of outcomes",
    "token_table": "the DynamoDB table of task tokens",
    "topic": "the SNS topic that is notified",
    "bus": "the EventBridge bus that is notified",
    "activity": "the activity, instead of a queue",
    "cluster": "the cluster of ECS",
    "task_definition": "the task definition's family",
    "function": "the Lambda function that a state calls",
    "job_queue": "the job queue of Batch",
    "job_definition": "the job definition of Batch",
    "job": "the job of Glue",
    "state_machine": "the state machine's own name: a Distributed Map starts children of it",
}
# Which kinds of state have a use for an option of the machine's.
_OF_KIND: dict[str, tuple[str, ...]] = {
    "bucket": ("map",),
    "prefix": ("map",),
    "kms_key": ("map",),
    "state_machine": ("map",),
    "queue": ("sqs",),
    "cluster": ("ecs", "ecs-sync"),
    "task_definition": ("ecs", "ecs-sync"),
    "pass_role": ("ecs", "ecs-sync"),
    "function": ("lambda", "consumer"),
    "job_queue": ("batch",),
    "job_definition": ("batch",),
    "job": ("glue",),
}
_SWITCHES: dict[str, tuple[tuple[str, ...], str]] = {
    "pull": (("producer", "worker"), "it reports by pull mode, and may not call Step Functions"),
    "tags": (("producer", "worker"), "it tags artifacts"),
    "object_lock": (("producer", "worker"), "it locks artifacts (Object Lock)"),
    "resume": (("producer", "worker"), "it resumes directories (resume_from=, layout='fixed'), and may list"),
    "no_list": (("consumer", "viewer"), "leave out s3:ListBucket: a missing object then looks like a forbidden one"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout iam``."""
    parser.usage = "%(prog)s ROLE [OPTION …]"
    roles = "\n".join(f"  {name:10} {summary}" for name, (summary, _) in ROLES.items())
    parser.epilog = f"roles:\n{roles}\n\n{_EXAMPLES}"
    parser.add_argument("role", metavar="ROLE", choices=ROLES, help="one of those listed below")
    parser.add_argument(
        "--kind",
        choices=MACHINE_KINDS,
        help="machine: the kind of its states, as in 'stepout asl'; one policy for each kind",
    )
    group = parser.add_argument_group("what it is narrowed to (names or ARNs)")
    for name, roles_of in _NAMES.items():
        group.add_argument(option_of(name), metavar="TEXT", help=f"{', '.join(roles_of)}: {_WHAT[name]}")
    group.add_argument(
        "--pass-role",
        action="append",
        metavar="ROLE",
        help="machine: a role that ECS is handed, task role and execution role; repeatable",
    )
    for name, (roles_of, text) in _SWITCHES.items():
        group.add_argument(option_of(name), action="store_true", help=f"{text} ({', '.join(roles_of)})")
    where = parser.add_argument_group("where")
    where.add_argument("--partition", default="aws", help="the partition in ARNs; default: aws")
    where.add_argument("--region", default="${AWS::Region}", help="the region in ARNs; default: ${AWS::Region}")
    where.add_argument("--account", default="${AWS::AccountId}", help="the account in ARNs; default: ${AWS::AccountId}")
    parser.set_defaults(run=_iam)


def _iam(arguments: argparse.Namespace) -> int:
    given = {name: getattr(arguments, name) for name in (*_NAMES, *_SWITCHES)}
    uses = {**_NAMES, **{name: roles for name, (roles, _) in _SWITCHES.items()}}
    strange = [name for name, value in given.items() if value and arguments.role not in uses[name]]
    if (arguments.kind or arguments.pass_role) and arguments.role != "machine":
        strange.append("kind" if arguments.kind else "pass_role")
    if strange:
        raise ConfigurationError(f"{arguments.role} has no use for {option_of(strange[0])}")
    _check_choice(arguments)
    listing = not given.pop("no_list")
    where = {name: getattr(arguments, name) for name in ("partition", "region", "account", "kind")}
    scope = Scope(**given, **where, listing=listing, pass_roles=tuple(arguments.pass_role or ()))
    document = policy(arguments.role, scope)
    print_json(document, one_line=False)
    if left := unfilled(document):
        sys.stderr.write(f"stepout: to be filled in: {', '.join(f'${{{name}}}' for name in left)}\n")
    return 0


def _check_choice(arguments: argparse.Namespace) -> None:
    """Refuse an empty name, one that the kind of state has no use for, and two sources of tasks."""
    for name in _NAMES:
        if getattr(arguments, name) == "" and name != "prefix":
            raise ConfigurationError(f"{option_of(name)} is empty: leave it out for a placeholder")
    for name, kinds in _OF_KIND.items():
        if arguments.kind and getattr(arguments, name) and arguments.kind not in kinds:
            raise ConfigurationError(f"{arguments.kind} has no use for {option_of(name)}")
    if arguments.role == "worker" and arguments.queue and arguments.activity:
        raise ConfigurationError("a worker takes tasks from --queue or from --activity, not both")
