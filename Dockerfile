# syntax=docker/dockerfile:1
# Two images of the service: `--target cpu` (the last stage, so the default) and `--target gpu`. No compiler, no torch.
# Bases are pinned by digest; name another with --build-arg CPU_BASE=... (any image with Python 3.11 or later).
ARG CPU_BASE=docker.io/library/python:3.11.16-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
ARG GPU_BASE=docker.io/nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04@sha256:14d94b039cb94bbd5da559f303b46bc4b0d5d6c24ab1a9d7b186e566ed3400dc

# pip and the SBOM's tool stay in /opt/build, out of the image.
FROM ${CPU_BASE} AS build-cpu
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY dragoman dragoman
COPY service service
COPY deploy/image/build.sh deploy/image/requirements.txt /build/
RUN sh /build/build.sh '.[server,tracing]'

FROM ${GPU_BASE} AS build-gpu
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3=3.12.* python3-venv=3.12.* \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY dragoman dragoman
COPY service service
COPY deploy/image/build.sh deploy/image/requirements.txt /build/
# The base image brings CUDA and cuDNN: onnxruntime-gpu without its [cuda,cudnn] extras.
RUN sh /build/build.sh '.[runtime,tracing]' 'onnxruntime-gpu==1.31.1' nvidia-ml-py

FROM ${GPU_BASE} AS gpu
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3=3.12.* \
    && rm -rf /var/lib/apt/lists/*
ARG BUNDLE=deploy/no-bundle
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Dragoman" \
      org.opencontainers.image.description="Attention-based translation over gRPC, batched at every decode step; CUDA" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build-gpu /opt/dragoman /opt/dragoman
COPY LICENSE /usr/share/doc/dragoman/LICENSE
COPY ${BUNDLE} /bundle
ENV PATH=/opt/dragoman/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1 \
    DRAGOMAN_BUNDLE=/bundle DRAGOMAN_PROVIDER=cuda
USER 10001:10001
EXPOSE 50051 50052 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-m", "service.health_probe", "127.0.0.1:50052"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "service"]

FROM ${CPU_BASE} AS cpu
# A bundle's folder inside the build context bakes it in; without one, mount it at /bundle.
ARG BUNDLE=deploy/no-bundle
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Dragoman" \
      org.opencontainers.image.description="Attention-based translation over gRPC, batched at every decode step; CPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build-cpu /opt/dragoman /opt/dragoman
COPY LICENSE /usr/share/doc/dragoman/LICENSE
COPY ${BUNDLE} /bundle
ENV PATH=/opt/dragoman/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1 \
    DRAGOMAN_BUNDLE=/bundle
USER 10001:10001
EXPOSE 50051 50052 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-m", "service.health_probe", "127.0.0.1:50052"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "service"]
