"""The routes of the server as an ASGI application, for uvicorn or another ASGI server."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import penult
from penult.errors import InputError
from penult.pipeline.models.predict import Prediction, check_options
from penult.pipeline.serving.batching import Batcher
from penult.pipeline.serving.classifiers import PixelClassifier
from penult.pipeline.serving.limits import Limits
from penult.pipeline.serving.metrics import CONTENT_TYPE, ServerMetrics
from penult.pipeline.serving.uploads import Upload, printable, uploads_of

__all__ = ["application"]

BUSY = {"Retry-After": "1"}


def application(classifier: PixelClassifier, limits: Limits | None = None) -> Starlette:
    """Returns the application: ``/predict``, ``/health``, ``/metrics``, and ``/`` with a description of the model."""
    handlers = _Handlers(classifier, limits or Limits())
    routes = [
        Route("/", handlers.about),
        Route("/health", handlers.health),
        Route("/metrics", handlers.metrics),
        Route("/predict", handlers.predict, methods=["POST"]),
    ]
    errors: dict[Any, Any] = {HTTPException: _http_error, Exception: _server_error}
    return Starlette(routes=routes, lifespan=handlers.lifespan, exception_handlers=errors)


class _Handlers:
    """Handles the requests of one application."""

    def __init__(self, classifier: PixelClassifier, limits: Limits) -> None:
        self._classifier, self._limits = classifier, limits
        self._classes = [printable(name) for name in classifier.classes]
        self._metrics = ServerMetrics(classifier)
        self._requests = self._images = 0

    @asynccontextmanager
    async def lifespan(self, application: Starlette) -> AsyncIterator[None]:
        async with Batcher(self._classifier, self._limits, self._metrics) as self._batcher:
            yield

    async def about(self, request: Request) -> Response:
        content = {
            "penult": penult.__version__,
            "model": self._classifier.about,
            "classes": self._classes,
            "limits": {name: getattr(self._limits, name) for name in ("images", "image_bytes", "pixels")},
            "paths": ["/predict", "/health", "/metrics"],
        }
        return JSONResponse(content)

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "model": self._classifier.name})

    async def metrics(self, request: Request) -> Response:
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def predict(self, request: Request) -> Response:
        began, status = time.perf_counter(), 500
        self._requests += 1
        try:
            if self._requests > self._limits.requests:
                raise HTTPException(503, "The server is busy: too many requests.", BUSY | {"Connection": "close"})
            answer = await self._answer(request)
            status = answer.status_code
            return answer
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            self._requests -= 1
            self._metrics.requests.labels(str(status)).inc()
            self._metrics.seconds.observe(time.perf_counter() - began)

    async def _answer(self, request: Request) -> Response:
        options = _options(request)
        uploads = await uploads_of(request, self._limits)
        if self._images + len(uploads) > self._limits.waiting_images:
            raise HTTPException(503, "The server is busy: too many images.", BUSY)
        self._count(len(uploads))
        try:
            predictions = await asyncio.gather(*(self._predict(upload, options) for upload in uploads))
        finally:
            self._count(-len(uploads))
        has_prediction = any(prediction.error is None for prediction in predictions)
        content = {
            "model": self._classifier.name,
            "predictions": [_to_json(prediction) for prediction in predictions],
        }
        return JSONResponse(content, 200 if has_prediction else 422)

    def _count(self, change: int) -> None:
        self._images += change
        self._metrics.waiting.set(self._images)

    async def _predict(self, upload: Upload, options: dict[str, Any]) -> Prediction:
        found = upload.error or await self._batcher.classify(upload.data)
        prediction = Prediction.of(
            upload.name, found, self._classes, **{"min_confidence": self._classifier.min_confidence, **options}
        )
        self._metrics.images.labels("classified" if prediction.error is None else "failed").inc()
        if prediction.label is not None:
            self._metrics.labels.labels(prediction.label).inc()
        return prediction


def _options(request: Request) -> dict[str, Any]:
    """Returns the query parameters: ``top`` and ``min_confidence``, as in `predict`."""
    kinds = {"top": int, "min_confidence": float}
    try:
        given = {name: kinds[name](value) for name, value in request.query_params.items()}
        check_options(given.get("top"), given.get("min_confidence", 0.0))
    except (KeyError, InputError, ValueError) as error:
        reason = f"there is no parameter {error}" if isinstance(error, KeyError) else str(error)
        raise HTTPException(400, f"The query cannot be read: {reason}; expected ?top=3&min_confidence=0.5.") from None
    return given


def _to_json(prediction: Prediction) -> dict[str, Any]:
    """Returns the prediction as JSON, with a ``name`` instead of a ``path``."""
    if prediction.error is not None:
        return {"name": prediction.path, "error": prediction.error}
    return {
        "name": prediction.path,
        "label": prediction.label,
        "confidence": prediction.confidence,
        "probabilities": prediction.probabilities,
    }


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _server_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "The server failed on this request; see its log."}, 500)
