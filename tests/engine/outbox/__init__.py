"""Deliveries: their states one by one, and against a model of the whole outbox."""
