# One image for coordinator and workers: docker build -t lotteryfl . && docker run --rm lotteryfl --help
# TORCH=cpu and TORCH=cuda insist on that build of torch, and without either it is the one that pip finds: PyPI's, which for Linux is CUDA's.
# TORCH_INDEX: a package index with another build, for the CPU alone or for the host's accelerator.

# What is installed is compared with its hash, but for a torch that is not PyPI's. Every stage is needed: without BuildKit all are built.
FROM python:3.11-slim AS dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/venv
WORKDIR /src
COPY constraints.txt requirements/run.txt requirements/torch.txt ./
RUN pip --python /opt/venv/bin/python install --require-hashes --no-deps --requirement run.txt
ARG TORCH=
ARG TORCH_INDEX=
RUN if [ "$TORCH" = cuda ] && [ -z "$TORCH_INDEX" ]; then set -- --require-hashes --no-deps --requirement torch.txt; \
    else set -- ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} --constraint constraints.txt torch; fi \
    && pip --python /opt/venv/bin/python install "$@"
# What no run opens: headers and archives for extensions in C++, torch's programs but for the one that it looks for, and everyone's tests. Models
# are not compiled here (training.compile): an image without a compiler cannot.
RUN cd /opt/venv/lib/python3*/site-packages \
    && find torch/bin -type f ! -name torch_shm_manager -delete \
    && rm -rf torch/include torch/lib/*.a torch/share torch/test \
    && find . -type d -name tests -prune -exec rm -rf {} + \
    && /opt/venv/bin/python -c 'import sys, torch; built = "cuda" if torch.version.cuda else "cpu"; wanted = sys.argv[1]; \
        sys.exit(f"TORCH={wanted}: found torch {torch.__version__}, for {built}: name an index with another: TORCH_INDEX" \
        if wanted not in ("", built) else 0)' "$TORCH"

FROM dependencies AS wheel
COPY . /src
RUN pip --python /opt/venv/bin/python wheel --no-deps --no-build-isolation --wheel-dir /dist /src

FROM python:3.11-slim
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
RUN useradd --uid 1000 --create-home lotteryfl \
    && install --directory --owner=lotteryfl --group=lotteryfl /runs \
    && install --directory --owner=lotteryfl --group=lotteryfl --mode=0700 \
        /certs /certs/coordinator /certs/worker /certs/observer
WORKDIR /opt/lotteryfl
# From what changes least to what changes most, so that a change of the code is an image within seconds.
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=wheel /dist /dist
RUN pip --python /opt/venv/bin/python --no-cache-dir --disable-pip-version-check --quiet install --no-index --no-deps /dist/*.whl
COPY examples examples

USER 1000
# Python answers SIGINT from its first moment on. SIGTERM does not reach a process 1 that has no handler yet.
STOPSIGNAL SIGINT
ENTRYPOINT ["lotteryfl"]
CMD ["--help"]
