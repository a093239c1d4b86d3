"""``stepout lifecycle``: S3's own rules for what tasks write."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from stepout.artifacts.keys import check_prefix
from stepout.artifacts.retention import keep_of
from stepout.clean_up.lifecycle import lifecycle_rules
from stepout.cli.options import JSON_SHAPE
from stepout.cli.printing import print_json
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse

_EPILOG = """\
examples:
  stepout lifecycle --prefix runs --keep 30d --keep 1d > rules.json
  aws s3api put-bucket-lifecycle-configuration --bucket results-bucket --lifecycle-configuration file://rules.json

The aws command replaces all rules that the bucket has: merge them first. Give one --keep for each keep= that tasks use
(ArtifactManager(keep="30d"), put(..., keep="30d")): its rule removes objects with the tag stepout-keep=30d. A version
that is no longer the newest goes after --noncurrent, even if a pointer names it.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout lifecycle``."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--prefix", default="", help="the prefix that tasks write below, as STEPOUT_PREFIX; default: the whole bucket"
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="TIME",
        help="remove objects that were kept for this long: 30d, 8w; repeatable",
    )
    parser.add_argument(
        "--uploads",
        default="7d",
        metavar="TIME",
        help="end unfinished uploads after this time, which is longer than any task; default: 7d",
    )
    parser.add_argument(
        "--noncurrent",
        default="30d",
        metavar="TIME",
        help="remove replaced and deleted versions after this time; default: 30d",
    )
    parser.add_argument("--json", action="store_true", help=f"print {JSON_SHAPE}")
    parser.set_defaults(run=_lifecycle)


def _lifecycle(arguments: argparse.Namespace) -> int:
    rules = lifecycle_rules(
        check_prefix(arguments.prefix),
        [_length("--keep", text) for text in arguments.keep],
        uploads=_length("--uploads", arguments.uploads),
        noncurrent=_length("--noncurrent", arguments.noncurrent),
    )
    print_json(rules, one_line=arguments.json)
    if not arguments.json:
        sys.stderr.write(
            "stepout: put-bucket-lifecycle-configuration replaces all of a bucket's rules: merge them first\n"
        )
    return 0


def _length(option: str, text: str) -> timedelta:
    try:
        return keep_of(text) or timedelta(0)
    except ConfigurationError as error:
        raise ConfigurationError(f"{option}: {error}") from None
