"""An execution as Step Functions tells of it: asked for, and its history read into visits of states."""
