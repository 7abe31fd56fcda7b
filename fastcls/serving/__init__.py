"""A classifier as an HTTP service, by the packages of the extra `serve`."""

from fastcls import optional

for _module in ("fastapi", "python_multipart", "uvicorn"):
    optional.require(_module, purpose="fastcls serve", extra="serve")
