#!/bin/busybox sh
# shellcheck shell=dash
# The first process of the machine that `cargo xtask test kernel` emulates. That step judges what the console shows: each result ends
# in a line with its exit status.

result() {
  name=$1
  shift
  "$@"
  echo "==> $name: $?"
}

# Head, body and a line break.
ask() {
  wget -q -S -O - "http://127.0.0.1:$FUNCTIONS_CUSTOMHANDLER_PORT$1"
  status=$?
  echo
  return "$status"
}

stop() {
  kill -TERM "$host"
  wait "$host"
}

export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
ip link set lo up
cd /app || poweroff -f

result check ./flexwasm check

export FUNCTIONS_CUSTOMHANDLER_PORT=8080 flexwasm__headers=full
./flexwasm &
host=$!
until ask / >/dev/null 2>&1 || ! kill -0 "$host"; do
  sleep 0.1
done
result answer ask '/api/http_trigger?name=Ada'
# From another instance, for which the slot was reset.
result again ask '/api/http_trigger?name=Grace'
result stop stop
poweroff -f
