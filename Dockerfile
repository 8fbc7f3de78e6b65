# EmoVerse behind its web address.
#
#   docker build -t emoverse .                                               # for CPUs
#   docker build -t emoverse:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#   docker run -p 8000:8000 -e EMOVERSE_TOKEN=... -v emoverse:/data --stop-timeout 100 emoverse
#   docker run --gpus all -v ./emoverse-4b:/model ... emoverse:cuda --model /model
#
# What follows the image's name goes to `emoverse serve`. `compact` runs on the CPU in either image.
# A server that is stopped finishes what is under way, for which Docker's ten seconds are too short.
FROM python:3.11-slim

# MediaPipe and OpenCV are linked against these even when nothing is drawn.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgles2 libgl1 libglib2.0-0 libxcb1 \
    && rm -rf /var/lib/apt/lists/*

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" -c constraints.txt ".[asr,serve]"

# Weights and jobs live in one volume, so that a new container neither fetches nor forgets.
ENV EMOVERSE_CACHE=/data/weights
RUN useradd --create-home emoverse && mkdir /data && chown emoverse /data
USER emoverse
VOLUME /data
EXPOSE 8000
HEALTHCHECK --start-period=120s CMD ["python", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# The word after the script is its name; the arguments come after that.
ENTRYPOINT ["sh", "-c", "emoverse pull compact && exec emoverse serve --host 0.0.0.0 --folder /data/server \"$@\"", "serve"]
