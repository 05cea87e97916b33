# docker build -t timbre-transfer .
# docker run --rm --user "$(id -u)" -v "$PWD:/work" timbre-transfer --model generator.h5 --input piano.mp3 --output guitar.wav
FROM python:3.12-slim
COPY requirements-convert.txt /app/
RUN pip install --no-cache-dir -r /app/requirements-convert.txt
COPY . /app
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
USER 65534
WORKDIR /work
ENTRYPOINT ["python", "/app/predict.py"]
