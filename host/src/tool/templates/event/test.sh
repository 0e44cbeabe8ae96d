#!/bin/sh
# Builds the guest, serves the app on a free port, and sends NAME an event. FLEXWASM names another executable.
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

# The app says how many instances it runs when it is built, and answers 503 until its guest is loaded.
until grep -q ' runs up to ' "$work/log" &&
  { "${FLEXWASM:-flexwasm}" send NAME --text Ada >"$work/answer" 2>&1 || ! grep -q 503 "$work/answer"; }; do
  kill -0 "$host" 2>/dev/null || fail "the app does not serve"
  sleep 0.1
done
grep -q '^done ' "$work/answer" || fail "$(cat "$work/answer")"
grep -q 'took .*: [1-9][0-9]* bytes' "$work/answer" || fail "the guest says nothing of the event: $(cat "$work/answer")"
echo "passed"
