"""The doctor's rules on state machines: SO1 waiting, SO2 Retry and Catch, SO3 what a container is given."""

from __future__ import annotations

from stepout.doctor.findings import Rule

MACHINE = (
    Rule(
        "SO101",
        "error",
        "A state that waits for a token or an activity has no HeartbeatSeconds",
        "Step Functions never looks at the container: one that dies without a word leaves the state waiting until its "
        "timeout, up to a year.",
        "Set HeartbeatSeconds; the task beats at a third of it.",
    ),
    Rule(
        "SO102",
        "warning",
        "A state that waits for a token or an activity has no TimeoutSeconds",
        "Heartbeats never extend a timeout, and without one a job that hangs but beats is waited for, up to a year.",
        "Set TimeoutSeconds above the longest job you would wait for.",
    ),
    Rule(
        "SO103",
        "note",
        "A job that Step Functions runs to its end (.sync) has no TimeoutSeconds",
        "A container that hangs is waited for, up to a year.",
        "Set TimeoutSeconds above the longest job you would wait for.",
    ),
    Rule(
        "SO104",
        "error",
        "HeartbeatSeconds is not below TimeoutSeconds",
        "Step Functions refuses such a state, or the timeout comes before the first missed heartbeat is noticed.",
        "Lower HeartbeatSeconds or raise TimeoutSeconds.",
    ),
    Rule(
        "SO105",
        "warning",
        "HeartbeatSeconds leaves too little time for a container to start",
        "The heartbeat clock starts when the state does: waiting for capacity, pulling the image and starting the "
        "program count. A slow pull fails a healthy job.",
        "Use 120 seconds at least, 300 to 600 for large images or Fargate Spot.",
    ),
    Rule(
        "SO106",
        "error",
        "A .waitForTaskToken state hands its token to nobody",
        "Without the token nobody can report, so the state can only time out.",
        "Pass the token, in ECS as an environment override of the container.",
    ),
    Rule(
        "SO107",
        "error",
        "A .waitForTaskToken, .sync or activity state in an Express workflow",
        "Express workflows support none of the three: creating or running the state machine fails.",
        'Use a Standard workflow ("type": "STANDARD"; in a Map, "ExecutionType": "STANDARD").',
    ),
    Rule(
        "SO108",
        "warning",
        "eks:runJob.waitForTaskToken",
        "The guide's page on EKS says that it is not supported, its table of integrations that it is: do not build on "
        "it.",
        "Use eks:runJob.sync with pull mode (STEPOUT_OUTPUT), or hand the token out through SQS or Lambda.",
    ),
    Rule(
        "SO109",
        "warning",
        "The execution log records task tokens",
        "At level ALL, includeExecutionData writes the parameters of every state into the log. A token in them lets "
        "every reader of the log with states:SendTask* end the task in its place.",
        "Switch includeExecutionData off.",
    ),
    Rule(
        "SO110",
        "warning",
        "A waiting state throws the task's output away",
        "ResultPath null discards the pointers: the artifacts are stored, but nobody is told where.",
        "Give ResultPath a place, or leave it out to pass the output on.",
    ),
    Rule(
        "SO111",
        "warning",
        "A Map may beat more often than the API's quota allows",
        "SendTaskHeartbeat has a quota of 500 a second in large regions and 300 in others (burst 3,000 and 1,500). "
        "Throttled beats are retried, but past the quota healthy tasks miss their heartbeat.",
        "Lower MaxConcurrency or raise HeartbeatSeconds: a task beats three times in HeartbeatSeconds.",
    ),
    Rule(
        "SO112",
        "error",
        "A task token is passed on where nothing waits for it",
        "Step Functions makes a token for .waitForTaskToken alone: elsewhere the path leads to nothing, and the state "
        "fails or its task reports to nobody.",
        "Use .waitForTaskToken; or leave the token out, and report by pull mode (STEPOUT_OUTPUT) beside .sync.",
    ),
    Rule(
        "SO113",
        "error",
        "Several containers share one task token or one output",
        "The first report closes the token, and the first success is the output: what the others have done is lost.",
        "Set Count to 1, and start one state for each container with a Map.",
    ),
    Rule(
        "SO114",
        "error",
        "The service does not support how the state waits",
        "Step Functions refuses a Resource with a pattern that its integration does not have.",
        "Use .sync with pull mode (STEPOUT_OUTPUT), or hand the token out through ECS, SQS or Lambda.",
    ),
    Rule(
        "SO115",
        "warning",
        "The outputs of an array job are read without their count",
        "Each child writes its own document, at {index} in the URL or behind it: without the count nobody can tell "
        "that all are there, and the URL itself leads to none.",
        "Pass the count beside the URL, and read all of them: resolve_all(url, count=…).",
    ),
    Rule(
        "SO116",
        "error",
        "A state has fields of the other query language",
        "Step Functions refuses the state machine: a state is written in JSONPath or in JSONata, not in both.",
        "Use the language's own fields, or change QueryLanguage.",
    ),
    Rule(
        "SO117",
        "error",
        "The output has {index}, and the task has none",
        "Batch gives an index to the children of array jobs, Kubernetes to the Pods of Indexed Jobs: any other task "
        "ends before its work.",
        "Leave {index} out, or make it an array job.",
    ),
)

RETRY = (
    Rule(
        "SO201",
        "error",
        "Retry or Catch names a Stepout error that does not exist",
        "Names are compared letter by letter: this entry never matches anything.",
        "Use the name that stepout reports (error_name), not the class's.",
    ),
    Rule(
        "SO202",
        "error",
        "Retry or Catch names a States error that does not exist",
        "Names that begin with States. are Step Functions' own, so nothing else can report this one: the entry never "
        "matches.",
        "Use one of Step Functions' names.",
    ),
    Rule(
        "SO203",
        "error",
        "States.ALL is not alone in its ErrorEquals",
        "Step Functions refuses the state machine: States.ALL must stand alone.",
        "Give States.ALL an entry of its own, the last one.",
    ),
    Rule(
        "SO204",
        "error",
        "An entry follows States.ALL",
        "Step Functions refuses the state machine: States.ALL matches first, so what follows could never match.",
        "Move the entry with States.ALL to the end.",
    ),
    Rule(
        "SO205",
        "warning",
        "States.TaskFailed is caught, States.Timeout is not",
        "States.TaskFailed matches every error but States.Timeout: a container that died without a word escapes this "
        "Catch and ends the execution.",
        "Catch States.Timeout and States.HeartbeatTimeout as well.",
    ),
    Rule(
        "SO206",
        "warning",
        "Only one of States.Timeout and States.HeartbeatTimeout is named",
        "A missed heartbeat is documented as States.Timeout in one place and as States.HeartbeatTimeout in another.",
        "Name both in the same ErrorEquals.",
    ),
    Rule(
        "SO207",
        "warning",
        "An entry is never reached, because an earlier one matches the same error",
        "Step Functions takes the first entry that matches, in the order of the list.",
        "Put the particular name before the general one, and each name into one entry.",
    ),
    Rule(
        "SO208",
        "warning",
        "An error that trying again cannot help is retried",
        "The job runs again, as long and as dear as before, to end the same way.",
        "Take the name out of this Retry, or give it an entry with MaxAttempts 0.",
    ),
    Rule(
        "SO209",
        "note",
        "A general Retry also retries errors that trying again cannot help",
        "States.ALL and States.TaskFailed match Stepout.Permanent, too.",
        "Put an entry with MaxAttempts 0 for the permanent errors before it.",
    ),
    Rule(
        "SO210",
        "note",
        "Nothing retries the errors that trying again may help",
        "A Spot interruption or an hour of S3 throttling fails the execution, although another try would do.",
        "Retry Stepout.Interrupted, Stepout.StoreUnavailable and Stepout.Retryable.",
    ),
    Rule(
        "SO211",
        "note",
        "A Catch has no ResultPath",
        "The error replaces the state's whole input: the next state no longer knows what was to be done.",
        'Set "ResultPath": "$.problem".',
    ),
    Rule(
        "SO212",
        "warning",
        "Retry or Catch names States.Runtime",
        "States.Runtime always ends the execution; it can be neither retried nor caught.",
        "Remove the name, and fix the path or expression that fails.",
    ),
    Rule(
        "SO213",
        "error",
        "An entry of Retry or Catch has no ErrorEquals",
        "Step Functions refuses the state machine: ErrorEquals must be a list of names, not an empty one.",
        "List the error names.",
    ),
)

OVERRIDES = (
    Rule(
        "SO301",
        "error",
        "The overrides are too long",
        "RunTask and SubmitJob take 8,192 characters of overrides, JSON included; a token takes about 700. The state "
        "fails before a container starts.",
        "Move constants into the task definition, and pass the input as a pointer (STEPOUT_INPUT).",
    ),
    Rule(
        "SO302",
        "note",
        "An override's length depends on the execution's input",
        "RunTask and SubmitJob take 8,192 characters of overrides; an input that grows fails the state before a "
        "container starts.",
        "Pass a pointer instead of the data (STEPOUT_INPUT takes both).",
    ),
    Rule(
        "SO303",
        "error",
        "A number is passed where environment variables are strings",
        "ECS refuses an environment value that is no string: the state fails before a container starts.",
        "Turn it into text: States.Format('{}', …) in JSONPath, $string(…) in JSONata.",
    ),
    Rule(
        "SO304",
        "error",
        "An override names a container that the task definition does not have",
        "RunTask refuses it: the state fails before a container starts.",
        "Use the name of a container of the task definition.",
    ),
    Rule(
        "SO305",
        "error",
        "A path or an expression is passed as literal text",
        "In JSONPath only keys that end in .$ are looked up, in JSONata only text within {% … %}: the container "
        "gets the path itself.",
        "Write the key with .$ in JSONPath, the value within {% … %} in JSONata.",
    ),
    Rule(
        "SO306",
        "error",
        "STEPOUT_HEARTBEAT_SECONDS is not the state's HeartbeatSeconds",
        "The task beats at a third of what the variable says: too slowly for the state, or for nothing more often.",
        "Give both the same value.",
    ),
    Rule(
        "SO307",
        "warning",
        "STEPOUT_HEARTBEAT_SECONDS is missing",
        "The task then beats every 60 seconds, whatever the state's HeartbeatSeconds.",
        "Pass HeartbeatSeconds, as text, in the overrides or in the task definition.",
    ),
    Rule(
        "SO308",
        "note",
        "The token is passed under a name that stepout does not read",
        "open_task() and stepout run read STEPOUT_TASK_TOKEN, or TASK_TOKEN.",
        "Rename the variable, unless your program passes the token on itself.",
    ),
    Rule(
        "SO309",
        "note",
        "The run is not named",
        "Without execution, state and attempt the artifacts' keys and the failure's cause do not say which run they "
        "are of.",
        "Pass STEPOUT_EXECUTION, STEPOUT_STATE and STEPOUT_ATTEMPT.",
    ),
    Rule(
        "SO310",
        "warning",
        "STEPOUT_ALLOW is missing where the input can be a pointer",
        "A task whose input is a pointer, a task output or a URL does not start without a list of what it may read.",
        'Set STEPOUT_ALLOW to "s3://bucket/prefix/", or pass allow=[…] to open_task.',
    ),
    Rule(
        "SO311",
        "error",
        "Members of a service's parameters begin with a small letter",
        "Step Functions wants PascalCase, however deep, where the service's own API has camelCase: it refuses or "
        "ignores what it does not know.",
        "Write ContainerOverrides, Environment, Name, Value.",
    ),
)
