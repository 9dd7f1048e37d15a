# An MLflow server as uv.lock has it, for tests without a registry; elsewhere the chart takes MLflow's own image.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
ARG BUILD_IMAGE=${PYTHON_IMAGE}

FROM --platform=$BUILDPLATFORM ${BUILD_IMAGE} AS build
ARG TARGETARCH
ARG UV_VERSION=0.13.9
WORKDIR /src
COPY jobs/environment.sh jobs/
COPY pyproject.toml uv.lock ./
COPY operator/pyproject.toml operator/
COPY jobs/contract/pyproject.toml jobs/contract/
COPY jobs/store/pyproject.toml jobs/store/
COPY jobs/compress/pyproject.toml jobs/compress/
COPY jobs/benchmark/pyproject.toml jobs/benchmark/
RUN --mount=type=secret,id=ca.crt --mount=type=secret,id=build.env \
    sh jobs/environment.sh dependencies paretune "${TARGETARCH}" --extra local \
        --no-install-package tensorflow-cpu --no-install-package keras --no-install-package tf-keras \
        --no-install-package libclang --no-install-package h5py --no-install-package ai-edge-litert \
        --no-install-package litert-quantizer --no-install-package grpcio --no-install-package kubernetes

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/paretune /opt/paretune
ENV PATH=/opt/paretune/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    USER=mlflow \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
CMD ["mlflow", "server", "--help"]
