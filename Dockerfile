# syntax=docker/dockerfile:1
# weft with its engines, as a user without rights. Build: make image
#
#   docker run -p 127.0.0.1:8080:8080 -e WEFT_ALLOW_UNAUTHENTICATED=true -v weft:/data weft
#
# See docs/install.md for how tasks get to a container engine from here.

FROM python:3.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/weft
WORKDIR /src
# What changes seldom comes first, so that it is built seldom.
COPY requirements.lock ./
RUN /opt/weft/bin/pip install --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY openapi/ openapi/
COPY weft/ weft/
COPY executors/ executors/
COPY tes_service/ tes_service/
COPY wes_service/ wes_service/
RUN /opt/weft/bin/pip install --no-deps --no-build-isolation .

# What stages files inside jobs on AWS Batch (docs/aws-batch.md): docker build --target staging -t weft-staging .
# It is root in its own container, to give files to the steps' user; its root file system is read-only there.
FROM python:3.12-slim-bookworm AS staging
RUN apt-get update \
    && apt-get install -y --no-install-recommends busybox-static \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/weft /opt/weft
ENV PATH=/opt/weft/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
ENTRYPOINT ["python", "-m", "weft.staging.inside"]

FROM python:3.12-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends bubblewrap \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin weft \
    && install -d -o weft -g weft /data
COPY --from=build /opt/weft /opt/weft
ENV PATH=/opt/weft/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    WEFT_HOST=0.0.0.0 \
    WEFT_DATA=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGINT
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["weft"]
CMD ["serve"]
