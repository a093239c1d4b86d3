"""How S3 is spoken to: the words of ``STEPOUT_S3_PROFILE``, who pays, and which endpoints are AWS's own. Pure.

``docs/how-to/s3-servers.md`` says what each word is for.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final

from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping


PAYER_VARIABLE: Final = "STEPOUT_REQUEST_PAYER"
PROFILE_VARIABLE: Final = "STEPOUT_S3_PROFILE"

PROFILE_WORDS: Final = ("aws", "compatible", "unconditional", "no-checksums")
"""``aws`` stands alone; every other word says what ``compatible`` says, and more."""

# Endpoints of S3 itself: https://docs.aws.amazon.com/general/latest/gr/s3.html, and the suffixes of botocore's
# partitions. Other hosts under amazonaws.com, such as a load balancer, are customers'.
_S3_HOST: Final = (
    r"(?:[a-z0-9._-]+\.)?s3(?:[a-z]+)?(?:-[a-z0-9-]+)?(?:\.dualstack)?(?:\.[a-z]+(?:-[a-z]+)+-[0-9]+)?(?:\.vpce)?"
    r"\.(?:amazonaws\.com(?:\.cn)?|amazonaws\.eu|api\.aws|api\.amazonwebservices\.(?:com\.cn|eu)"
    r"|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)"
)


@functools.lru_cache(maxsize=16)
def profile_words(text: str) -> frozenset[str]:
    """Return the words of a profile: separated by spaces, commas or plus signs. No word at all means ``aws``.

    >>> sorted(profile_words("unconditional, no-checksums"))
    ['no-checksums', 'unconditional']

    Raises:
        ConfigurationError: One is not known, or ``aws`` does not stand alone.
    """
    words = frozenset(re.split(r"[\s,+]+", text.strip())) - {""} or frozenset({"aws"})
    unknown = ", ".join(sorted(repr(word[:40]) for word in words - set(PROFILE_WORDS)))
    if unknown:
        known = "'aws', or one or several of 'compatible', 'unconditional' and 'no-checksums'"
        raise ConfigurationError(f"S3 profile {unknown} is not known: expected {known} ({PROFILE_VARIABLE})")
    if "aws" in words and len(words) > 1:
        raise ConfigurationError(f"S3 profile: 'aws' stands alone, got {', '.join(sorted(words))} ({PROFILE_VARIABLE})")
    return words


def profile_words_from(environ: Mapping[str, str]) -> frozenset[str]:
    """Return the words that ``STEPOUT_S3_PROFILE`` holds; ``aws`` where it is unset or empty.

    Raises:
        ConfigurationError: As for ``profile_words``.
    """
    return profile_words(environ.get(PROFILE_VARIABLE) or "aws")


def payer_of(environ: Mapping[str, str]) -> str | None:
    """Return what ``STEPOUT_REQUEST_PAYER`` says: ``"requester"``, or ``None`` where it is unset or empty.

    Raises:
        ConfigurationError: It says something else.
    """
    payer = environ.get(PAYER_VARIABLE) or None
    if payer in (None, "requester"):
        return payer
    raise ConfigurationError(f"{PAYER_VARIABLE} is {str(payer)[:40]!r}: expected 'requester' or nothing")


@functools.lru_cache(maxsize=64)
def is_aws_endpoint(url: str) -> bool:
    """Say whether an endpoint is one of AWS's for S3.

    >>> is_aws_endpoint("https://s3.eu-west-1.amazonaws.com"), is_aws_endpoint("http://127.0.0.1:9000")
    (True, False)
    """
    from urllib.parse import urlsplit  # a cold read does without

    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return re.fullmatch(_S3_HOST, host.lower()) is not None
