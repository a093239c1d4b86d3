"""An AWS on this machine for demos and tests: Step Functions, ECS, Lambda, S3, SQS and SNS, without Docker."""

from stepout.local.aws import LocalAws
from stepout.local.lambda_runtime import lambda_zip

__all__ = ["LocalAws", "lambda_zip"]
