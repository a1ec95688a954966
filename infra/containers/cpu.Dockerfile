# Workers without a GPU, and `tsuzuki setup`. Build from the root of a checkout:
#   docker build -f infra/containers/cpu.Dockerfile -t tsuzuki-cpu .
FROM python:3.11-slim-bookworm

RUN useradd --uid 1000 --create-home tsuzuki && install -d -o 1000 -g 1000 /store /app
WORKDIR /app
COPY --chown=1000:1000 . /app
RUN pip install --no-cache-dir torch==2.13.0 -c constraints.txt \
 && pip install --no-cache-dir -e '.[dask,words]' -c constraints.txt \
 && pip install --no-cache-dir --no-deps megatron-core==0.15.3

ENV TSUZUKI_STORE=/store
USER 1000:1000
CMD ["tsuzuki", "--help"]
