"""Reports silent deaths: a Lambda for "ECS Task State Change" events, ``stepout.callbacks.ecs_watch.handler``."""

from stepout.callbacks.ecs_watch.watcher import Watcher, WatchSettings, handler, make_handler

__all__ = ["WatchSettings", "Watcher", "handler", "make_handler"]
