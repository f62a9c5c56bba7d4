"""The metrics of the server in the OpenMetrics format."""

from penult.errors import MissingExtraError
from penult.pipeline.serving.classifiers import PixelClassifier

__all__ = ["CONTENT_TYPE", "ServerMetrics"]

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64)


class ServerMetrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self, classifier: PixelClassifier) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
        except ImportError:
            raise MissingExtraError.of("prometheus-client", "serve", "The server") from None
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("penult_requests", "Requests to /predict by status.", ["status"], registry=registry)
        self.images = Counter("penult_images", "Images by outcome.", ["outcome"], registry=registry)
        self.labels = Counter("penult_labels", "Images by predicted label.", ["label"], registry=registry)
        self.seconds = Histogram(
            "penult_request_seconds",
            "Seconds from the headers of a request to its response.",
            buckets=SECONDS,
            registry=registry,
        )
        self.batch = Histogram("penult_batch_images", "Images in a batch.", buckets=BATCHES, registry=registry)
        self.waiting = Gauge("penult_images_waiting", "Images in progress.", registry=registry)
        Info("penult_model", "The served model.", registry=registry).info(classifier.about)
        for outcome in ("classified", "failed"):
            self.images.labels(outcome)  # exported as 0 from the start

    def text(self) -> bytes:
        """Returns the metrics as text for a scraper."""
        from prometheus_client.openmetrics.exposition import generate_latest

        text: bytes = generate_latest(self._registry)  # type: ignore[no-untyped-call]  # the package is partly typed
        return text
