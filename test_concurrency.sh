#!/usr/bin/env bash
# Fires N requests at the demonstration function, all in flight together, and shows which process, thread and
# instance answered each one. Needs bash, curl 7.68 or newer, and awk.
set -euo pipefail

usage() {
  cat <<'END'
Usage: ./test_concurrency.sh URL [N] [DELAY] [--html FILE]

  URL    the function, such as http://127.0.0.1:7071/api/http_trigger
  N      parallel requests, 1 to 300 (default 5); for more: cargo xtask burst URL N DELAY
  DELAY  seconds that each request sleeps (default 3)
  FILE   where to draw them, as a page with a lane for each slot. This needs the flexwasm executable, on the PATH or built
         here with cargo build, and prints its summary in place of the table

A function key, where the function needs one, is read from the variable FUNCTION_KEY.

Exit status: 0 when no request failed and as many ran at the same time as the pool allows, 1 when not, 2 for a wrong
call.
END
}

fail() {
  echo "test_concurrency.sh: $1" >&2
  echo "Try './test_concurrency.sh --help'." >&2
  exit 2
}

# The report. Reads "number <tab> status <tab> JSON" and decides the exit status.
report() {
  awk -F '\t' -v expected="$2" -v delay="$3" -v total="$4" '
    # The value of a key that occurs once: text without its quotes, or a number.
    function value(json, key,    at, rest) {
      if (!match(json, "\"" key "\" *: *")) return ""
      rest = substr(json, RSTART + RLENGTH)
      if (substr(rest, 1, 1) == "\"") { rest = substr(rest, 2); at = index(rest, "\""); return substr(rest, 1, at - 1) }
      match(rest, /^[-0-9.a-z]+/)
      return substr(rest, 1, RLENGTH)
    }
    # The id and name of a thread object.
    function thread(json, key) {
      if (!match(json, "\"" key "\" *: *[{][^}]*[}]")) return ""
      json = substr(json, RSTART, RLENGTH)
      return value(json, "id") " " value(json, "name")
    }
    # Seconds since 1970 of an ISO 8601 time in UTC, by counting the days of the civil calendar.
    function seconds(time,    y, m, d, era, day) {
      y = substr(time, 1, 4) + 0; m = substr(time, 6, 2) + 0; d = substr(time, 9, 2) + 0
      if (m <= 2) y--
      era = int(y / 400); y -= era * 400
      day = int((153 * (m + (m > 2 ? -3 : 9)) + 2) / 5) + d - 1
      day = era * 146097 + y * 365 + int(y / 4) - int(y / 100) + day - 719468
      return day * 86400 + substr(time, 12, 2) * 3600 + substr(time, 15, 2) * 60 + substr(time, 18, 6)
    }
    function sort(list, n,    gap, i, j, held) {
      for (gap = int(n / 2); gap > 0; gap = int(gap / 2))
        for (i = gap + 1; i <= n; i++) {
          held = list[i]
          for (j = i; j > gap && list[j - gap] > held; j -= gap) list[j] = list[j - gap]
          list[j] = held
        }
    }
    function note(set, key) { if (!(key in set)) { set[key] = 1; set["count"]++ } }
    function clock(time) { return substr(time, 12, 12) }
    {
      answered++
      if ($2 != "200" || value($3, "instance_id") == "") {
        failed++
        row[$1] = sprintf("request-%-5d FAILED: HTTP %s %s", $1, $2, value($3, "message"))
        next
      }
      json = $3
      machine = value(json, "machine"); pid = value(json, "process_id"); pool = value(json, "pool_size")
      id = value(json, "instance_id"); slot = value(json, "slot")
      split(thread(json, "thread_start"), begun, " "); split(thread(json, "thread_end"), ended, " ")
      start = value(json, "start"); end = value(json, "end")
      row[$1] = sprintf("request-%-5d PID:%-8s %-16s %-16s %-15s %-15s", $1, pid, begun[1] " " begun[2], "#" id " slot " slot, clock(start), clock(end))
      note(machines, machine); note(processes, machine " " pid); pids[pid] = 1
      note(threads, machine " " begun[1]); note(threads, machine " " ended[1])
      note(instances, machine " " pid " " id); note(slots, machine " " pid " " slot)
      ok++; starts[ok] = seconds(start); ends[ok] = seconds(end)
      last = json
    }
    END {
      sort(starts, ok); sort(ends, ok)
      for (i = j = 1; i <= ok; i++) {
        while (j <= ok && ends[j] <= starts[i]) j++
        if (i - j + 1 > peak) peak = i - j + 1
      }
      print "========================================="
      print "RESULTS SUMMARY"
      print "========================================="
      printf "Total execution time: %.2f seconds (one after the other: %g seconds)\n\nREQUEST DETAILS:\n\n", total, expected * delay
      printf "%-13s %-12s %-16s %-16s %-15s %-15s\n", "Request", "Process", "Thread", "Instance", "Start", "End"
      print "-----------------------------------------------------------------------------------------"
      for (i = 1; i <= expected; i++) {
        if (!(i in row)) { failed++; row[i] = sprintf("request-%-5d FAILED: no answer", i) }
        print row[i]
      }
      list = ""; for (pid in pids) list = list pid " "
      capacity = pool * machines["count"]
      print "\nCONCURRENCY STATS:\n-----------------"
      printf "Peak overlap:            %d requests at the same time\n", peak
      printf "Unique processes:        %d (PIDs: %s)\n", processes["count"], list
      printf "Unique threads:          %d\n", threads["count"]
      printf "Unique instances:        %d\n", instances["count"]
      printf "Unique slots:            %d of %d\n", slots["count"], capacity
      printf "Unique machines:         %d\n", machines["count"]
      if (capacity > 0 && capacity < expected)
        printf "Waves:                   %d (the pool of %d is smaller than %d requests)\n", int((expected + capacity - 1) / capacity), capacity, expected
      print "\nSYSTEM INFO:\n-----------------"
      printf "CPU Count: %s vCPUs\nCPU Info: %s\n", value(last, "cpu_count"), value(last, "cpu_model")
      printf "Memory: %s GB (%s GB available)\nPlatform: %s\n\n", value(last, "memory_total_gb"), value(last, "memory_available_gb"), value(last, "platform")
      wanted = expected < capacity ? expected : capacity
      if (failed > 0) { printf "❌ RESULT: %d of %d requests failed.\n", failed, expected; exit 1 }
      if (peak < wanted) { printf "❌ RESULT: only %d requests ran at the same time, %d should have.\n", peak, wanted; exit 1 }
      own = instances["count"] == expected ? ", each in an instance of its own" : ""
      printf "✅ RESULT: Concurrency is working! %d requests processed, %d in parallel%s.\n", expected, peak, own
    }
  ' "$1"
}

html=''
[ "${*: -1}" != --html ] || fail "--html takes a FILE"
if [ $# -ge 2 ] && [ "${*: -2:1}" = --html ]; then
  html=${*: -1}
  set -- "${@:1:$#-2}"
fi

case "${1:-}" in
  -h | --help) usage; exit 0 ;;
  http://* | https://*) ;;
  '') usage >&2; exit 2 ;;
  *) fail "'$1' is no URL: it must start with http:// or https://" ;;
esac

url=$1 count=${2:-5} delay=${3:-3}
case $count in *[!0-9]* | '' | ????*) fail "N is '$count', but must be a whole number from 1 to 300" ;; esac
count=$((10#$count))
if [ "$count" -lt 1 ] || [ "$count" -gt 300 ]; then
  fail "N is $count, but must be from 1 to 300 (for more: cargo xtask burst)"
fi
case $delay in *[!0-9.]* | '' | . | *.*.*) fail "DELAY is '$delay', but must be a number of seconds, such as 0.5" ;; esac
if [ -n "$html" ]; then
  here=$(dirname "${BASH_SOURCE[0]}")
  flexwasm=$(PATH="$PATH:$here/target/release:$here/target/debug" type -P flexwasm) ||
    fail "--html needs the flexwasm executable: build it with 'cargo build', or put it on the PATH"
  exec "$flexwasm" burst "$url" "$count" "$delay" --html "$html"
fi
for tool in curl awk; do
  command -v "$tool" >/dev/null || fail "$tool is needed: install it, on Debian with 'apt-get install $tool'"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One curl for all requests: they leave together, and the key stays out of the list of processes.
{
  case $url in *\?*) target="$url&delay=$delay" ;; *) target="$url?delay=$delay" ;; esac
  if [ -n "${FUNCTION_KEY:-}" ]; then printf 'header = "x-functions-key: %s"\n' "$FUNCTION_KEY"; fi
  for ((i = 1; i <= count; i++)); do
    printf 'url = "%s"\noutput = "%s/%d.json"\n' "$target" "$work" "$i"
  done
} >"$work/requests"

serial=$(awk -v n="$count" -v d="$delay" 'BEGIN { printf "%g", n * d }')
echo "Testing concurrent execution with $count parallel requests..."
echo "Each request will sleep for $delay seconds"
echo "If concurrency works, total time should be ~$delay seconds, not $serial seconds"
echo
echo "Sending requests..."

now() { echo "${EPOCHREALTIME:-$SECONDS}" | tr , .; }
started=$(now)
patience=$(awk -v d="$delay" 'BEGIN { print int(d) + 120 }')
curl --no-progress-meter --globoff --parallel --parallel-immediate --parallel-max "$count" --max-time "$patience" \
  --config "$work/requests" --write-out '%{filename_effective}\t%{http_code}\n' >"$work/statuses" 2>"$work/errors" &
transfer=$!
waited=0
while kill -0 "$transfer" 2>/dev/null; do
  sleep 0.2
  waited=$((waited + 1))
  if [ $((waited % 5)) -eq 0 ] && [ -t 1 ]; then
    printf '\r%d of %d answered, %d s' "$(awk 'END { print NR }' "$work/statuses")" "$count" "$((waited / 5))"
  fi
done
wait "$transfer" || true
[ ! -t 1 ] || printf '\r%40s\r' ''
echo
awk 'NR <= 3 { print "curl: " $0 }' "$work/errors" >&2

total=$(awk -v a="$started" -v b="$(now)" 'BEGIN { print b - a }')
while IFS=$'\t' read -r file status; do
  number=${file##*/}
  body=''
  [ ! -f "$file" ] || body=$(<"$file")
  printf '%s\t%s\t%s\n' "${number%.json}" "$status" "${body//[$'\t\n']/ }"
done <"$work/statuses" >"$work/answers"
report "$work/answers" "$count" "$delay" "$total"
