# The server as an image: `docker build -t tidewaiter .`, or all of it with `docker compose up`.

FROM python:3.11-slim AS build
WORKDIR /source
RUN python -m venv /opt/tidewaiter
ENV PATH=/opt/tidewaiter/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The libraries first: they change seldom, and every file must have the hash that is written down.
COPY requirements/runtime.txt requirements/
RUN pip install --require-hashes --requirement requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY policies policies
COPY registry registry
COPY api api
RUN pip wheel --no-deps --wheel-dir dist . && pip install --no-deps --no-index dist/*.whl && pip check

FROM python:3.11-slim
# A user without a shell; its number is fixed, so that volumes keep their owner from image to image.
RUN groupadd --gid 10001 tidewaiter \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/tidewaiter --shell /usr/sbin/nologin tidewaiter \
    && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/tidewaiter
COPY --from=build /opt/tidewaiter /opt/tidewaiter
ENV PATH=/opt/tidewaiter/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TIDEWAITER_DATA=/var/lib/tidewaiter \
    TIDEWAITER_LISTEN=0.0.0.0:8080 \
    TIDEWAITER_ADMIN_LISTEN=0.0.0.0:9090
WORKDIR /var/lib/tidewaiter
USER 10001:10001
VOLUME /var/lib/tidewaiter
# 8080 is the public door; 9090 tells operators of measures and health, and should not be published.
EXPOSE 8080 9090
# An answer other than 200 raises. Proxies from the environment have no part in asking oneself.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", \
    "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8080/readyz', timeout=4)"]
ENTRYPOINT ["tidewaiter"]
CMD ["serve"]
