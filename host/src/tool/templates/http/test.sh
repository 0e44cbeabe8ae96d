#!/bin/sh
# Builds the guest, serves the app on a free port, and checks what NAME answers. FLEXWASM names another executable.
set -eu
cd "$(dirname "$0")"

work=$(mktemp -d)
"${FLEXWASM:-flexwasm}" run --listen 127.0.0.1:0 >"$work/log" 2>&1 &
host=$!
trap 'kill "$host" 2>/dev/null || true; rm -rf "$work"' EXIT

fail() {
  cat "$work/log"
  echo "FAILED: $1"
  exit 1
}

# The app says its URL when it is built, and answers 503 until its guest is loaded.
until url=$(grep -o 'http://127.0.0.1:[0-9]*/api/NAME' "$work/log") &&
  status=$(curl --silent --output "$work/answer" --write-out '%{http_code}' "$url?name=Ada") && [ "$status" != 503 ]; do
  kill -0 "$host" 2>/dev/null || fail "the app does not serve"
  sleep 0.1
done
[ "$status $(cat "$work/answer")" = "200 Hello, Ada!" ] || fail "the answer is $status $(cat "$work/answer")"
echo "passed"
