# syntax=docker/dockerfile:1
# Two images of the service: `--target cpu` (the last stage, so the default) and `--target gpu`. No compiler, no torch.
ARG CPU_BASE=python:3.11-slim-bookworm
ARG GPU_BASE=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04

FROM ${CPU_BASE} AS build-cpu
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY dragoman dragoman
COPY service service
RUN python -m venv /opt/dragoman \
    && /opt/dragoman/bin/pip install --no-cache-dir --no-compile -c constraints.txt '.[server]'

FROM ${GPU_BASE} AS build-gpu
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3=3.12.* python3-venv=3.12.* \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY dragoman dragoman
COPY service service
# The base image brings CUDA and cuDNN: onnxruntime-gpu without its [cuda,cudnn] extras.
RUN python3 -m venv /opt/dragoman \
    && /opt/dragoman/bin/pip install --no-cache-dir --no-compile -c constraints.txt '.[runtime]' 'onnxruntime-gpu==1.31.1'

FROM ${GPU_BASE} AS gpu
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3=3.12.* \
    && rm -rf /var/lib/apt/lists/*
ARG BUNDLE=deploy/no-bundle
COPY --from=build-gpu /opt/dragoman /opt/dragoman
COPY ${BUNDLE} /bundle
ENV PATH=/opt/dragoman/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1 \
    DRAGOMAN_BUNDLE=/bundle DRAGOMAN_PROVIDER=cuda
USER 10001:10001
EXPOSE 50051 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-m", "service.health_probe", "127.0.0.1:50051"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "service"]

FROM ${CPU_BASE} AS cpu
# A bundle's folder inside the build context bakes it in; without one, mount it at /bundle.
ARG BUNDLE=deploy/no-bundle
COPY --from=build-cpu /opt/dragoman /opt/dragoman
COPY ${BUNDLE} /bundle
ENV PATH=/opt/dragoman/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1 \
    DRAGOMAN_BUNDLE=/bundle
USER 10001:10001
EXPOSE 50051 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-m", "service.health_probe", "127.0.0.1:50051"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "service"]
