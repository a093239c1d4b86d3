"""Where documents come from, and what they lead to: URLs of outcomes, references of other tools."""
