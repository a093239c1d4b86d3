"""Where an outcome is reported to: one module a scheme, the registry of schemes, and the report to several."""
