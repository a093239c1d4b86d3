"""How a report reaches a service: clients, decisions on answers, tries, and causes without secrets."""
