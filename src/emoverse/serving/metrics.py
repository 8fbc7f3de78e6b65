"""What `/metrics` tells Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """The figures of one server; each server has its own registry."""

    def __init__(self) -> None:
        """Start all figures at zero."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "emoverse_requests",
            "Requests answered.",
            ["path", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "emoverse_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.pending = Gauge(
            "emoverse_pending_requests", "Requests under way.", registry=self.registry
        )
        self.queued = Gauge(
            "emoverse_queued_questions",
            "Questions that wait for the model.",
            registry=self.registry,
        )
        self.batch = Histogram(
            "emoverse_batch_questions",
            "Questions answered together.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )
        self.model_seconds = Histogram(
            "emoverse_model_seconds",
            "Time the model took for one batch.",
            ["task"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.decodes = Counter(
            "emoverse_decodes",
            "Clips decoded, by how it ended.",
            ["outcome"],
            registry=self.registry,
        )
        self.decode_seconds = Histogram(
            "emoverse_decode_seconds",
            "Time to decode a clip and measure its faces.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.jobs = Gauge("emoverse_jobs", "Jobs by state.", ["state"], registry=self.registry)

    def text(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self.registry)
