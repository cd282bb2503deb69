# Two images of one server: `slim`, the default, has the server only; `full` also has what scripts find in Kestra's.
#   docker build -t tercel .
#   docker build -t tercel:full --target full .
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE requirements.lock ./
COPY src/tercel/__init__.py src/tercel/
# First what it stands on, in the versions of the lock: that changes seldom, and takes long.
RUN sed -n 's/^\([A-Za-z0-9_.-]*==[^ ;\\]*\).*/\1/p' requirements.lock > /constraints.txt \
    && python3 -m venv /opt/tercel \
    && /opt/tercel/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
        -c /constraints.txt hatchling ".[all]"
COPY src ./src
RUN /opt/tercel/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
        --no-deps --no-build-isolation --force-reinstall . \
    && /opt/tercel/bin/python -m pip uninstall -q -y hatchling pip

FROM ${BASE} AS base
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin \
    && useradd --uid 1000 --user-group --home-dir /app --create-home --shell /bin/bash kestra \
    && chmod 755 /app \
    && install -d -o kestra -g kestra /app/storage /tmp/kestra-wd /var/lib/tercel
COPY --from=build /opt/tercel /opt/tercel
# The command by both its names, also where scripts and compose files that were written for Kestra look for it.
COPY deploy/command.sh deploy/docker-entrypoint.sh /usr/local/bin/
RUN mv /usr/local/bin/command.sh /app/kestra \
    && ln -s /app/kestra /usr/local/bin/kestra \
    && ln -s /app/kestra /usr/local/bin/tercel \
    && ln -s tercel /opt/tercel/bin/kestra
# A container's own loopback can be reached by nobody: it listens everywhere, but only with a login or a `none` that
# was written down.
ENV TERCEL_HOST=0.0.0.0 PYTHONUNBUFFERED=1
WORKDIR /app
EXPOSE 8080 8081
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["--help"]

FROM base AS slim
USER kestra

FROM base AS full
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates curl git nodejs npm zip \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
RUN python3 -m venv /opt/scripts \
    && /opt/scripts/bin/python -m pip install --no-cache-dir --disable-pip-version-check kestra \
    && chown -R kestra:kestra /opt/scripts
ENV PATH=/opt/scripts/bin:${PATH}
USER kestra

FROM slim
