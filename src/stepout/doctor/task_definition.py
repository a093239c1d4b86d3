"""The doctor's look at an ECS task definition: stop timeout, shell, image, environment, logs (SO4)."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from stepout.callbacks.lifecycle.signals import grace_of
from stepout.doctor.json_lookup import at, items, members, number, plain, shown, text
from stepout.doctor.rules import find
from stepout.doctor.states import TOKEN_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stepout.doctor.findings import Expectations, Finding

_DEFAULT_STOP = 30.0
_REPORT = 10.0  # what a report takes that meets one connection that stalls
_FARGATE_STOP = (2, 120)
_SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh", "ksh"})
_EXECS = re.compile(r"(^|[;&|\n({]|\bthen\b|\bdo\b|\belse\b)\s*exec\s")
_SECRET_WORDS = frozenset({"PASSWORD", "PASSWD", "PWD", "SECRET", "SECRETS", "TOKEN", "APIKEY", "CREDENTIALS"})
_SECRET_PAIRS = frozenset({("API", "KEY"), ("ACCESS", "KEY"), ("PRIVATE", "KEY"), ("SECRET", "KEY")})
_ABOUT_SECRETS = frozenset({"ARN", "NAME", "PATH", "FILE", "DIR", "URL", "URI", "TTL", "SECONDS", "EXPIRY", "LENGTH"})
_SECRET_VALUE = re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]+:[^/\s:@]+@")
_NO_SECRETS = frozenset({"PWD", "OLDPWD"})


def task_of(document: object) -> tuple[str, dict[str, Any]]:
    """Return a task definition, of DescribeTaskDefinition's answer or as it is registered, after its path."""
    inner = members(document).get("taskDefinition")
    return ("taskDefinition", inner) if isinstance(inner, dict) else ("", members(document))


def containers_of(task: dict[str, Any], where: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Return a task definition's containers, each after its path."""
    found = enumerate(items(task.get("containerDefinitions")))
    return [(at(where, "containerDefinitions", index), members(each)) for index, each in found]


def all_containers(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the containers of several task definitions."""
    return [container for task in tasks for _, container in containers_of(task)]


def environment_of(container: dict[str, Any]) -> dict[str, Any]:
    """Return a container's plain environment."""
    pairs = [members(pair) for pair in items(container.get("environment"))]
    return {pair["name"]: pair.get("value") for pair in pairs if isinstance(pair.get("name"), str)}


def task_findings(document: object, expected: Expectations) -> Iterator[Finding]:
    """Look at a task definition.

    Args:
        document: What RegisterTaskDefinition takes or DescribeTaskDefinition answers.
        expected: What it does not say itself.
    """
    where, task = task_of(document)
    containers = containers_of(task, where)
    if not containers:
        yield find("SO900", at(where, "containerDefinitions"), "a task definition without containers")
    fargate = "FARGATE" in [each for each in items(task.get("requiresCompatibilities")) if isinstance(each, str)]
    if not task.get("taskRoleArn"):
        yield find("SO413", where, "no taskRoleArn", severity=None if fargate else "note")
    for place, container in containers:
        yield from _container(place, container)
        if _is_job(container, alone=len(containers) == 1):
            yield from _job(place, container, expected, fargate=fargate)
        yield from _stop_range(place, container, fargate=fargate)


def _is_job(container: dict[str, Any], *, alone: bool) -> bool:
    """Whether this is the container that stepout works in; sidecars have their own ways."""
    words = [*items(container.get("entryPoint")), *items(container.get("command"))]
    named = any(name.startswith("STEPOUT_") for name in environment_of(container))
    return alone or named or any(isinstance(word, str) and "stepout" in word for word in words)


def _container(where: str, container: dict[str, Any]) -> Iterator[Finding]:
    """What holds for sidecars, too."""
    name, image = shown(text(container.get("name")) or "?"), text(container.get("image"))
    last = image.rpartition("/")[2]
    known = image and "${" not in image  # a placeholder may become anything
    if known and "@" not in last and last.partition(":")[2] in {"", "latest"}:
        what = f"the image of {name} is {'latest' if ':' in last else 'without a tag'}"
        yield find(
            "SO407", at(where, "image"), what, example={"image": f"{shown(image.removesuffix(':latest'))}:1.4.2"}
        )
    if not members(container.get("logConfiguration")):
        yield find("SO410", where, f"{name} has no logConfiguration")
    pairs = [(index, members(pair)) for index, pair in enumerate(items(container.get("environment")))]
    for index, pair in pairs:
        if pair.get("name") in TOKEN_NAMES:
            yield find("SO409", at(where, "environment", index), f"{pair['name']} is set")
    yield from secret_findings(
        (text(pair.get("name")), at(where, "environment", index), pair.get("value")) for index, pair in pairs
    )


def secret_findings(variables: Iterable[tuple[str, str, Any]]) -> Iterator[Finding]:
    """Find secrets among plain variables by their names, or by what their values look like.

    Args:
        variables: Name, path and value of each; the value is looked at and never shown.
    """
    for name, where, value in variables:
        if name in TOKEN_NAMES or not isinstance(value, str) or not value:
            continue
        if _names_secret(name):
            what = f"{shown(name)} has the name of a secret"
        elif _SECRET_VALUE.search(value):
            what = f"{shown(name)} holds what looks like a key or a password"
        else:
            continue
        fixed = {"secrets": [{"name": shown(name), "valueFrom": "arn:aws:secretsmanager:…"}]}
        yield find("SO408", where, what, example=fixed)


def _names_secret(name: str) -> bool:
    words = [word for word in re.split(r"[^A-Z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()) if word]
    if not words or words[-1] in _ABOUT_SECRETS or name in _NO_SECRETS:
        return False
    return bool(_SECRET_WORDS & set(words) or _SECRET_PAIRS & set(pairwise(words)))


def _job(where: str, container: dict[str, Any], expected: Expectations, *, fargate: bool) -> Iterator[Finding]:
    yield from _stop(where, container, expected, fargate=fargate)
    yield from _shells(where, container)
    if not items(container.get("command")) and not items(container.get("entryPoint")):
        yield find("SO406", where, "neither command nor entryPoint")
    if members(container.get("linuxParameters")).get("initProcessEnabled") is True and _is_stepout_run(container):
        yield find("SO411", at(where, "linuxParameters", "initProcessEnabled"), "init, then stepout run")
    if members(container.get("restartPolicy")).get("enabled") is True:
        yield find("SO412", at(where, "restartPolicy"), "it is enabled")


def _shells(where: str, container: dict[str, Any]) -> Iterator[Finding]:
    """Look at entry point and command as ECS runs them, one after the other: a script may stand apart from its shell.

    Under ``stepout run`` a shell does no harm: signals go to its whole process group.
    """
    entry, command = items(container.get("entryPoint")), items(container.get("command"))
    apart = bool(command) and any(re.fullmatch(r"-[a-z]*c", text(word)) for word in entry[-1:])
    yield from command_findings(
        where, [*entry, *command] if apart else entry, name="command" if apart else "entryPoint"
    )
    if not apart and not _is_stepout_run({"entryPoint": entry}):
        yield from command_findings(where, command, name="command")


def _is_stepout_run(container: dict[str, Any]) -> bool:
    words = [text(word) for word in (*items(container.get("entryPoint")), *items(container.get("command")))]
    pairs = pairwise(words)
    return any(first.rpartition("/")[2] == "stepout" and second == "run" for first, second in pairs)


def _stop(where: str, container: dict[str, Any], expected: Expectations, *, fargate: bool) -> Iterator[Finding]:
    given = number(container.get("stopTimeout"))
    stop = _DEFAULT_STOP if given is None else given
    if expected.stop_budget is not None and stop < expected.stop_budget:
        what = f"{plain(stop)} s, and uploads need {plain(expected.stop_budget)} s"
        most = min(int(expected.stop_budget) + 1, _FARGATE_STOP[1]) if fargate else int(expected.stop_budget) + 1
        yield find("SO401", at(where, "stopTimeout"), what, example={"stopTimeout": most})
    elif expected.stop_budget is None and stop - grace_of(stop) < _REPORT:
        left = plain(stop - grace_of(stop))
        what = f"of {plain(stop)} s, {left} s are left for the report, which may need {plain(_REPORT)}"
        yield find("SO401", at(where, "stopTimeout"), what, example={"stopTimeout": 60}, severity="warning")
    elif given is None:
        yield find("SO402", where, "no stopTimeout")
    told = environment_of(container).get("STEPOUT_STOP_TIMEOUT")
    try:
        planned = _DEFAULT_STOP if told is None else float(text(told))
    except ValueError:
        planned = -1.0
    if planned != stop:
        what = f"the container has {plain(stop)} s, stepout plans with {plain(planned) if planned > 0 else 'no number'}"
        yield find("SO404", where, what, example={"name": "STEPOUT_STOP_TIMEOUT", "value": plain(stop)})


def _stop_range(where: str, container: dict[str, Any], *, fargate: bool) -> Iterator[Finding]:
    given = number(container.get("stopTimeout"))
    if fargate and given is not None and not _FARGATE_STOP[0] <= given <= _FARGATE_STOP[1]:
        yield find("SO403", at(where, "stopTimeout"), f"it is {plain(given)}")


def command_findings(where: str, words: object, *, name: str) -> Iterator[Finding]:
    """Find a shell that keeps SIGTERM to itself.

    Args:
        where: The container's or the override's path.
        words: The command; its text is looked at and never shown.
        name: The member's name.
    """
    found = [text(word) for word in items(words)]
    shell = found[0].rpartition("/")[2] if found else ""
    script = next((found[i + 1] for i, word in enumerate(found[:-1]) if re.fullmatch(r"-[a-z]*c", word)), None)
    if shell in _SHELLS and script is not None and not _EXECS.search(script):
        yield find("SO405", at(where, name), f"{shell} -c without exec", example={name: ["python", "job.py"]})
