"""An AWS on this machine for demos and tests: Step Functions, ECS, Lambda, S3, SQS and SNS, without Docker."""

from stepout.local.aws import LocalAws

__all__ = ["LocalAws"]
