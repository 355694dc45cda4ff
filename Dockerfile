# A CPU image with everything: docker build -t abaw-emi . && docker run --rm -v "$PWD:/work" abaw-emi demo
FROM python:3.11-slim
WORKDIR /opt/abaw_emi
COPY pyproject.toml README.md LICENSE ./
COPY abaw_emi abaw_emi
# torch and torchaudio of the CPU index: PyPI's wheels for Linux bring 3 GB of CUDA. Another index, or a mirror:
# docker build --build-arg TORCH_INDEX=URL
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir 'torch>=2.11,<2.15' 'torchaudio>=2.11,<2.12' --index-url "$TORCH_INDEX" \
 && pip install --no-cache-dir '.[train]'
WORKDIR /work
ENTRYPOINT ["abaw-emi"]
CMD ["--help"]
