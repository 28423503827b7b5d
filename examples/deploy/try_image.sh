#!/bin/sh
# Builds the image and tries it: it serves as a user without rights from a read-only root, keeps what was acknowledged over
# a kill, backs up, and ends in peace. Needs docker or podman; further words are options of the build.
#   examples/deploy/try_image.sh [--build-arg TORCH_INDEX=... | --build-arg PYTHON=... | ...]
set -eu
cd "$(dirname "$0")/../.."
tool=${CONTAINER_TOOL:-$(command -v docker || command -v podman)}
image=memedit:try
"$tool" build -f examples/deploy/Dockerfile -t "$image" "$@" .
folder=$(mktemp -d)
chmod 777 "$folder"
name=memedit-try-$$
trap '"$tool" rm -f "$name" >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
in_container() { "$tool" run --rm --read-only --tmpfs /tmp -v "$folder:/data" "$image" "$@"; }
serve() { "$tool" run -d --name "$name" --read-only --tmpfs /tmp -p 127.0.0.1:18000:8000 -v "$folder:/data" "$image" >/dev/null; }
await() {
    for _ in $(seq 120); do
        if curl -fs http://127.0.0.1:18000/ready >/dev/null; then return; fi
        sleep 1
    done
    "$tool" logs "$name"
    echo "the server did not start" >&2
    exit 1
}
ask() { curl -fsS "http://127.0.0.1:18000$1" -H "Authorization: Bearer $key" -H 'Content-Type: application/json' -d "$2"; }

key=$(in_container keys create try --role admin)
serve
await
test "$("$tool" exec "$name" id -u)" = 10001
ask /v1/edits '{"prompt": "The capital of Freedonia is", "target": "Sylvania City"}' >/dev/null
"$tool" kill "$name" >/dev/null
"$tool" rm "$name" >/dev/null
serve
await
ask /v1/chat/completions '{"messages": [{"role": "user", "content": "What is the capital of Freedonia?"}], "max_tokens": 8}' |
    grep -q 'Sylvania City'
"$tool" exec "$name" memedit backup /data/ | grep -q '1 edit, 1 namespace'
"$tool" stop -t 45 "$name" >/dev/null
test "$("$tool" inspect -f '{{.State.ExitCode}}' "$name")" = 0
echo "the image serves, keeps what it acknowledged, backs up and stops"
