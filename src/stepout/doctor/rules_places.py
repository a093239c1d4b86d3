"""The doctor's rules on where a task runs and writes: SO4 task definition, SO5 bucket, SO6 network, SO9 looking."""

from __future__ import annotations

from stepout.doctor.findings import Rule

TASK = (
    Rule(
        "SO401",
        "error",
        "The stop timeout is shorter than the time that uploads need to end",
        "ECS sends SIGTERM and, after stopTimeout, SIGKILL: what is not aborted and reported by then is left behind, "
        "and the state learns of it by a missed heartbeat.",
        "Raise stopTimeout (Fargate: at most 120) or make the parts smaller.",
    ),
    Rule(
        "SO402",
        "note",
        "stopTimeout is not set",
        "Between SIGTERM and SIGKILL are 30 seconds then, of which stepout keeps 10 for the report.",
        "Set stopTimeout, and STEPOUT_STOP_TIMEOUT to the same value.",
    ),
    Rule(
        "SO403",
        "error",
        "stopTimeout is out of Fargate's range",
        "Fargate takes 2 to 120 seconds.",
        "Set a value from 2 to 120.",
    ),
    Rule(
        "SO404",
        "warning",
        "STEPOUT_STOP_TIMEOUT is not the container's stopTimeout",
        "stepout plans its last report by STEPOUT_STOP_TIMEOUT (30 seconds where it is missing): with more than the "
        "container gets, it is killed before; with less, it gives up early.",
        "Give both the same value.",
    ),
    Rule(
        "SO405",
        "warning",
        "A shell stands between ECS and the program",
        "SIGTERM goes to the container's first process. A shell that does not exec the program keeps the signal to "
        "itself, so the program is killed unwarned after stopTimeout.",
        'Name the program itself, or write exec before it: ["sh", "-c", "exec python job.py"].',
    ),
    Rule(
        "SO406",
        "note",
        "The command is the image's own, and cannot be seen here",
        "In a Dockerfile, CMD python job.py (the shell form) runs a shell that swallows SIGTERM.",
        'Check that the image uses the exec form: CMD ["python", "job.py"].',
    ),
    Rule(
        "SO407",
        "warning",
        "The image has no fixed version",
        "Tomorrow's retry may run other code than today's first try, and nobody can tell which code made an artifact.",
        "Use a tag that never moves, or a digest.",
    ),
    Rule(
        "SO408",
        "warning",
        "A secret in the plain environment",
        "Whoever may describe the task, the task definition or the state machine reads it.",
        "Use secrets with valueFrom (Secrets Manager, Parameter Store), and the task role instead of static keys.",
    ),
    Rule(
        "SO409",
        "error",
        "A task token in the task definition",
        "A token belongs to one try of one state: this one is closed or another's, and everybody who describes the "
        "task definition reads it.",
        "Pass the token as an override of the state.",
    ),
    Rule(
        "SO410",
        "warning",
        "The container has no log configuration",
        "On Fargate its output is lost, so a failure leaves nothing to read but its cause.",
        "Add logConfiguration.",
    ),
    Rule(
        "SO411",
        "note",
        "An init process in front of stepout run",
        "stepout run forwards signals and reaps children as the first process; one more before it does nothing.",
        "Leave initProcessEnabled out, unless other programs of the image need it.",
    ),
    Rule(
        "SO412",
        "warning",
        "The container has a restart policy",
        "ECS starts it again with the same token and the same attempt; the first report has closed the token.",
        "Let Retry of the state start a new task, which gets a new token.",
    ),
    Rule(
        "SO413",
        "warning",
        "The task definition has no task role",
        "Without taskRoleArn a container on Fargate has no credentials: it can neither write to S3 nor report.",
        "Set taskRoleArn to a role with the producer's policy (stepout iam prints it).",
    ),
)

BUCKET = (
    Rule(
        "SO501",
        "warning",
        "No rule removes incomplete multipart uploads",
        "A killed container leaves its parts behind. They are billed, and no listing of objects shows them.",
        "Add a lifecycle rule with AbortIncompleteMultipartUpload.",
    ),
    Rule(
        "SO502",
        "error",
        "Incomplete multipart uploads are removed before the longest job ends",
        "An upload that is open for longer than DaysAfterInitiation is aborted under the hands of a job that still "
        "writes.",
        "Raise DaysAfterInitiation above the longest job.",
    ),
    Rule(
        "SO503",
        "error",
        "Artifacts expire before their consumers are done",
        "A pointer to an object that a lifecycle rule has removed cannot be resolved any more.",
        "Raise the expiration, or give artifacts a prefix of their own.",
    ),
    Rule(
        "SO504",
        "note",
        "Versioning is off",
        "Pointers then pin the object by its ETag and checksum: a change is noticed, but the bytes are gone.",
        "Enable versioning where artifacts may be overwritten.",
    ),
    Rule(
        "SO505",
        "warning",
        "The public access block is not complete",
        "One policy or one ACL makes results public.",
        "Block all four kinds of public access.",
    ),
    Rule(
        "SO506",
        "note",
        "The bucket encrypts with a KMS key",
        "Producers need kms:GenerateDataKey, and kms:Decrypt too: a multipart upload reads its own parts. Consumers "
        "need kms:Decrypt. Without it S3 answers AccessDenied.",
        "Grant both on the key (stepout iam prints the statements).",
    ),
    Rule(
        "SO507",
        "note",
        "Object Lock keeps every artifact",
        "No version can be deleted before its retention ends, in COMPLIANCE mode by nobody.",
        "Use a bucket without default retention for what is temporary.",
    ),
    Rule(
        "SO508",
        "warning",
        "Artifacts move to a storage class that cannot be read at once",
        "S3 answers InvalidObjectState until the object is restored, which takes minutes to days.",
        "Use STANDARD_IA, GLACIER_IR or INTELLIGENT_TIERING, or leave the prefix out of the rule.",
    ),
    Rule(
        "SO509",
        "warning",
        "The server ignores If-None-Match",
        "Write-once is lost: a second writer replaces the first, and both are told that they won.",
        "Set STEPOUT_S3_PROFILE=unconditional: stepout looks before it writes. Two writers at the same moment are "
        "still not told apart.",
    ),
    Rule(
        "SO510",
        "warning",
        "The server refuses checksum headers",
        "Every put fails with the usual profile.",
        "Set STEPOUT_S3_PROFILE=no-checksums: Content-MD5 guards the bytes on their way, readers verify SHA-256.",
    ),
    Rule(
        "SO511",
        "note",
        "The server has no full-object checksums of multipart uploads",
        "Puts of more than 8 MiB fail with the profile aws.",
        "Set STEPOUT_S3_PROFILE=compatible.",
    ),
    Rule(
        "SO512",
        "note",
        "GET does not repeat the ETag of a write",
        "A pointer that is pinned to the write's ETag could never be read.",
        "Use any profile but aws: stepout looks at what it has uploaded, and reads it once where ETags differ.",
    ),
    Rule(
        "SO513",
        "warning",
        "The server does not verify checksums",
        "Bytes that are damaged on their way are stored; readers notice it, when the work is done and gone.",
        "Use HTTPS, and stepout verify after writing what cannot be made again.",
    ),
    Rule(
        "SO514",
        "note",
        "What the server needs",
        "A profile says what a server can do; stepout does not guess it.",
        "Set the variable for every task and every consumer; aws is the default.",
    ),
)

NETWORK = (
    Rule(
        "SO601",
        "error",
        "A subnet without a way to Step Functions",
        "Neither a default route nor an endpoint: heartbeats and the report are never sent, so the state times out "
        "although the work is done.",
        "Add an interface endpoint for states, a NAT gateway, or report through SQS.",
    ),
    Rule(
        "SO602",
        "error",
        "A subnet without a way to S3",
        "Neither a default route nor an endpoint that its route table uses: no artifact can be written.",
        "Add a gateway endpoint for S3 (free of charge) to the subnet's route table.",
    ),
    Rule(
        "SO603",
        "warning",
        "A subnet without a way to SQS, which is used",
        "Relay and workers need SQS: messages are neither sent nor received.",
        "Add an interface endpoint for sqs.",
    ),
    Rule(
        "SO604",
        "warning",
        "A subnet without a way to the image registry",
        "The image cannot be pulled: Fargate needs ecr.api and ecr.dkr (and S3) to start a container from ECR.",
        "Add interface endpoints for ecr.api and ecr.dkr.",
    ),
    Rule(
        "SO605",
        "warning",
        "A subnet without a way to CloudWatch Logs",
        "With the awslogs driver a container does not start when the log group cannot be reached.",
        "Add an interface endpoint for logs.",
    ),
    Rule(
        "SO606",
        "warning",
        "An endpoint without private DNS",
        "SDKs use the service's public name; without private DNS it leads past the endpoint.",
        "Enable private DNS names, or set AWS_ENDPOINT_URL_SFN (and the like) in the container.",
    ),
    Rule(
        "SO607",
        "error",
        "A task in a public subnet without a public address",
        "An internet gateway serves only what has a public address: without one the container reaches no service.",
        'Set "AssignPublicIp": "ENABLED", or use a subnet behind a NAT gateway.',
    ),
)

LOOKING = (
    Rule(
        "SO900",
        "error",
        "It could not be read",
        "What was not looked at was not found to be in order.",
        "Give JSON of a state machine, a task definition, a bucket's configuration or a network (see --help).",
    ),
    Rule(
        "SO901",
        "note",
        "Could not look",
        "A permission is missing, so this part was not checked.",
        "Grant the permission, or give the answer as a file.",
    ),
    Rule(
        "SO902",
        "note",
        "Skipped: not a document of these kinds",
        "Nothing in it was looked at.",
        "Give a state machine, a task definition, a bucket's configuration or a network (see --help).",
    ),
    Rule(
        "SO903",
        "note",
        "An outcome that was not delivered is kept on this machine",
        "It may be the only copy: nothing removes such a folder, and with the machine or the container it is gone.",
        "Read it with stepout show. If the state still waits, send it with send-task-success; else hand it to whoever "
        "needs it. Then remove the folder.",
    ),
)
