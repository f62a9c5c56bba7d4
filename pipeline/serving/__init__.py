"""An HTTP server that predicts uploaded images.

`server.serve` runs it, `limits.Limits` are its settings, and `application.application` is the ASGI application. This
package imports none of them, because they need the packages of the extra ``serve``.
"""
