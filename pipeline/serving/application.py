"""The server's routes as an ASGI application, for uvicorn or whatever else serves such."""

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
    """Returns the application: ``/predict``, ``/health``, ``/metrics``, and ``/``, which tells of the model."""
    desk = _Desk(classifier, limits or Limits())
    routes = [
        Route("/", desk.about),
        Route("/health", desk.health),
        Route("/metrics", desk.tell_metrics),
        Route("/predict", desk.predict, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {HTTPException: _refusal, Exception: _failure}
    return Starlette(routes=routes, lifespan=desk.lifespan, exception_handlers=handlers)


class _Desk:
    """Takes the requests of one application."""

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
        told = {
            "penult": penult.__version__,
            "model": self._classifier.about,
            "classes": self._classes,
            "limits": {name: getattr(self._limits, name) for name in ("images", "image_bytes", "pixels")},
            "paths": ["/predict", "/health", "/metrics"],
        }
        return JSONResponse(told)

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "model": self._classifier.name})

    async def tell_metrics(self, request: Request) -> Response:
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def predict(self, request: Request) -> Response:
        began, status = time.perf_counter(), 500
        self._requests += 1
        try:
            if self._requests > self._limits.requests:
                raise HTTPException(503, "The server has as many requests as it takes.", BUSY | {"Connection": "close"})
            answer = await self._answer(request)
            status = answer.status_code
            return answer
        except HTTPException as refusal:
            status = refusal.status_code
            raise
        finally:
            self._requests -= 1
            self._metrics.requests.labels(str(status)).inc()
            self._metrics.seconds.observe(time.perf_counter() - began)

    async def _answer(self, request: Request) -> Response:
        options = _options(request)
        uploads = await uploads_of(request, self._limits)
        if self._images + len(uploads) > self._limits.waiting_images:
            raise HTTPException(503, "The server has as many images as it takes.", BUSY)
        self._count(len(uploads))
        try:
            predictions = await asyncio.gather(*(self._predicted(upload, options) for upload in uploads))
        finally:
            self._count(-len(uploads))
        is_any_good = any(prediction.error is None for prediction in predictions)
        content = {
            "model": self._classifier.name,
            "predictions": [_plain(prediction) for prediction in predictions],
        }
        return JSONResponse(content, 200 if is_any_good else 422)

    def _count(self, change: int) -> None:
        self._images += change
        self._metrics.waiting.set(self._images)

    async def _predicted(self, upload: Upload, options: dict[str, Any]) -> Prediction:
        found = upload.refusal or await self._batcher.classify(upload.data)
        prediction = Prediction.of(
            upload.name, found, self._classes, **{"min_confidence": self._classifier.min_confidence, **options}
        )
        self._metrics.images.labels("classified" if prediction.error is None else "failed").inc()
        if prediction.label is not None:
            self._metrics.labels.labels(prediction.label).inc()
        return prediction


def _options(request: Request) -> dict[str, Any]:
    """Returns what the address asks for: ``top`` and ``min_confidence``, as those of `predict`."""
    kinds = {"top": int, "min_confidence": float}
    try:
        given = {name: kinds[name](value) for name, value in request.query_params.items()}
        check_options(given.get("top"), given.get("min_confidence", 0.0))
    except (KeyError, InputError, ValueError) as error:
        wrong = f"no parameter is called {error}" if isinstance(error, KeyError) else str(error)
        raise HTTPException(400, f"The address cannot be read: {wrong}; expected ?top=3&min_confidence=0.5.") from None
    return given


def _plain(prediction: Prediction) -> dict[str, Any]:
    """Returns the prediction as JSON has it; what a client calls a path is a name here."""
    if prediction.error is not None:
        return {"name": prediction.path, "error": prediction.error}
    told = {"label": prediction.label, "confidence": prediction.confidence, "probabilities": prediction.probabilities}
    return {"name": prediction.path, **told}


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _failure(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "The server failed at this request; its log says why."}, 500)
