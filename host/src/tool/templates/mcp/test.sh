#!/bin/sh
# Builds the guest, serves the app on a free port, and calls a tool of NAME. FLEXWASM names another executable.
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

call='{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "slow_work", "arguments": {"seconds": 0}}}'
# The app says its URL when it is built, and answers 503 until its guest is loaded.
until url=$(grep -o 'http://127.0.0.1:[0-9]*/api/NAME' "$work/log") &&
  status=$(curl --silent --output "$work/answer" --write-out '%{http_code}' --json "$call" "$url") && [ "$status" != 503 ]; do
  kill -0 "$host" 2>/dev/null || fail "the app does not serve"
  sleep 0.1
done
grep -q '"worked for 0 s"' "$work/answer" || fail "the answer is $status $(cat "$work/answer")"
echo "passed"
