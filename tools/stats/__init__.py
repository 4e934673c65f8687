"""The process behind `/metrics`, `/livez` and `/readyz`.

Promises: what Prometheus sees is the shared counters and the outbox as they are at that moment. No
sum ever falls, also when a process is no longer configured.
Never: owns anything or changes anything. It may be slow or die without the service noticing.
Read first: `stats.py`, then `collector.py` and `outbox_collector.py`.
Invariants: names, help and labels of counters come from `engine/telemetry/metrics.py`. Labels say
names of processes, of remote AEs and of SOP classes, and nothing of a patient.
"""
