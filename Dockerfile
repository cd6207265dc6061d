# One image for coordinator and workers: docker build -t lotteryfl . && docker run --rm lotteryfl --help
FROM python:3.11-slim AS wheel
COPY . /src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist /src

FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN useradd --uid 1000 --create-home lotteryfl \
    && install --directory --owner=lotteryfl --group=lotteryfl /runs \
    && install --directory --owner=lotteryfl --group=lotteryfl --mode=0700 \
        /certs /certs/coordinator /certs/worker /certs/observer

# From what changes least to what changes most, so that a change of the code is an image within seconds.
# TORCH_INDEX: a package index with another build of torch, for the host's accelerator or for the CPU alone.
ARG TORCH_INDEX=
WORKDIR /opt/lotteryfl
COPY constraints.txt ./
RUN pip install --constraint constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY pyproject.toml ./
RUN python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
        print(*project["dependencies"], *project["optional-dependencies"]["metrics"], sep="\n")' > requirements.txt \
    && pip install --constraint constraints.txt --requirement requirements.txt
COPY --from=wheel /dist /dist
RUN pip install --no-deps /dist/*.whl
COPY examples examples

USER 1000
# Python answers SIGINT from its first moment on. SIGTERM does not reach a process 1 that has no handler yet.
STOPSIGNAL SIGINT
ENTRYPOINT ["lotteryfl"]
CMD ["--help"]
