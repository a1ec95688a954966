# Workers with GPUs: NVIDIA's NeMo container, and beside it an environment with tsuzuki and Prefect. Build from the root
# of a checkout:
#   docker build -f infra/containers/nemo.Dockerfile -t tsuzuki-nemo .
FROM nvcr.io/nvidia/nemo:25.04

# The container's own interpreter has NeMo; trainings with backend nemo run in it.
RUN ln -s "$(command -v python)" /usr/local/bin/nemo-python \
 && install -d -o 1000 -g 1000 /store /app /home/tsuzuki
WORKDIR /app
COPY --chown=1000:1000 . /app
RUN python -m venv /opt/tsuzuki \
 && /opt/tsuzuki/bin/pip install --no-cache-dir torch==2.13.0 -c constraints.txt \
 && /opt/tsuzuki/bin/pip install --no-cache-dir -e '.[dask,words]' -c constraints.txt \
 && /opt/tsuzuki/bin/pip install --no-cache-dir --no-deps megatron-core==0.15.3

ENV PATH=/opt/tsuzuki/bin:$PATH \
    HOME=/home/tsuzuki \
    TSUZUKI_STORE=/store \
    TSUZUKI_NEMO_PYTHON=/usr/local/bin/nemo-python
USER 1000:1000
CMD ["tsuzuki", "--help"]
