"""What the server counts, told in the OpenMetrics format."""

from penult.errors import MissingExtraError
from penult.pipeline.serving.classifiers import PixelClassifier

__all__ = ["CONTENT_TYPE", "ServerMetrics"]

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64)


class ServerMetrics:
    """The counters of one server; two servers in one process share none."""

    def __init__(self, classifier: PixelClassifier) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
        except ImportError:
            raise MissingExtraError.of("prometheus-client", "serve", "The server") from None
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("penult_requests", "Requests to /predict by status.", ["status"], registry=registry)
        self.images = Counter("penult_images", "Images by what became of them.", ["outcome"], registry=registry)
        self.labels = Counter("penult_labels", "Images by the label that they got.", ["label"], registry=registry)
        self.seconds = Histogram(
            "penult_request_seconds", "From a request's head to its answer.", buckets=SECONDS, registry=registry
        )
        self.batch = Histogram("penult_batch_images", "Images in a batch.", buckets=BATCHES, registry=registry)
        self.waiting = Gauge("penult_images_waiting", "Images that are under way.", registry=registry)
        Info("penult_model", "What is served.", registry=registry).info(classifier.about)
        for outcome in ("classified", "failed"):
            self.images.labels(outcome)  # so that it is told from the beginning, as 0

    def text(self) -> bytes:
        """Returns all of them as a scraper reads them."""
        from prometheus_client.openmetrics.exposition import generate_latest

        told: bytes = generate_latest(self._registry)  # type: ignore[no-untyped-call]  # the package types half of it
        return told
