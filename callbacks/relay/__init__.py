"""The relay: a Lambda between a queue and Step Functions. Handler: ``stepout.callbacks.relay.handler``."""

from stepout.callbacks.relay.batch import handler, make_handler, relay

__all__ = ["handler", "make_handler", "relay"]
