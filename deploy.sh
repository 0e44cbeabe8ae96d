#!/usr/bin/env bash
# Creates a Flex Consumption function app in East Asia and publishes flexwasm to it, in four steps: resource group,
# storage account, function app, package. Needs az (logged in), cargo and zip.
set -euo pipefail
cd "$(dirname "$0")"

usage() {
  cat <<'END'
Usage: ./deploy.sh [--dry-run] NAME

  NAME       the function app, unique in all of Azure: 3 to 40 lower-case letters, digits and dashes, a letter first;
             the resource group is rg-NAME, the storage account is made from the same letters
  --dry-run  print every command, run none

Variables: LOCATION (default eastasia), INSTANCE_MEMORY in MB (512, 2048 or 4096, default 2048).
A second run with the same NAME keeps what is there and publishes again. To remove everything:
az group delete --name rg-NAME
END
}

fail() {
  echo "deploy.sh: $1" >&2
  exit "${2:-1}"
}

dry_run=false name=''
for argument in "$@"; do
  case $argument in
    -h | --help) usage; exit 0 ;;
    --dry-run) dry_run=true ;;
    -*) fail "unknown option $argument; see ./deploy.sh --help" 2 ;;
    *) [ -z "$name" ] || fail "one NAME is enough; see ./deploy.sh --help" 2; name=$argument ;;
  esac
done
[[ $name =~ ^[a-z][a-z0-9-]{1,38}[a-z0-9]$ ]] ||
  fail "NAME is '$name', but must be 3 to 40 lower-case letters, digits and dashes, a letter first; see ./deploy.sh --help" 2
location=${LOCATION:-eastasia} memory=${INSTANCE_MEMORY:-2048}
case $memory in 512 | 2048 | 4096) ;; *) fail "INSTANCE_MEMORY is '$memory', but must be 512, 2048 or 4096" 2 ;; esac
# One number for the pool and for the platform: what the plan sends to an instance is what its pool can run.
concurrency=$(sed -n 's/.*"maxConcurrentRequests": *\([0-9]*\).*/\1/p' host.json)
[ -n "$concurrency" ] || fail "host.json: extensions.http.maxConcurrentRequests is not set: set it to the pool size"

group=rg-$name
storage=st${name//-/}
storage=${storage:0:24}
package=target/deploy/flexwasm.zip

run() {
  printf '+'
  printf ' %q' "$@"
  printf '\n'
  "$dry_run" || "$@"
}

# Asks Azure, quietly; in a dry run the answer is no, so that every command is shown.
exists() { ! "$dry_run" && "$@" --output none 2>/dev/null; }

if ! "$dry_run"; then
  for tool in az cargo zip; do
    command -v "$tool" >/dev/null || fail "$tool is needed and was not found"
  done
  az account show --output none || fail "not logged in: run 'az login' first"
fi

echo "Step 1 of 4: resource group $group in $location"
run az group create --name "$group" --location "$location" --output none

echo "Step 2 of 4: storage account $storage"
run az storage account create --name "$storage" --resource-group "$group" --location "$location" --sku Standard_LRS \
  --allow-blob-public-access false --min-tls-version TLS1_2 --output none

echo "Step 3 of 4: function app $name ($memory MB, $concurrency requests at the same time on each instance)"
if exists az functionapp show --resource-group "$group" --name "$name"; then
  echo "it exists already"
else
  # No --runtime-version: az refuses the one that Azure wants and sends it by itself.
  run az functionapp create --resource-group "$group" --name "$name" --storage-account "$storage" \
    --flexconsumption-location "$location" --runtime custom --instance-memory "$memory" --https-only true \
    --disable-app-insights true --output none
fi
run az functionapp scale config set --resource-group "$group" --name "$name" --trigger-type http \
  --trigger-settings "perInstanceConcurrency=$concurrency" --output none

echo "Step 4 of 4: build and publish"
run cargo build --release --package flexwasm
run cargo build --profile guest --target wasm32-wasip2 --target-dir target/guests --package flexwasm-guest
run cp target/guests/wasm32-wasip2/guest/flexwasm_guest.wasm http_trigger/guest.wasm
run install -D -m 0755 target/release/flexwasm target/deploy/flexwasm
# Compiled for every x86-64 processor, whichever this one is: a cold start maps the guest and compiles nothing.
run target/deploy/flexwasm compile --portable http_trigger/guest.wasm
run target/deploy/flexwasm check .
run rm -f "$package"
run zip -q -X "$package" host.json http_trigger/function.json http_trigger/guest.wasm http_trigger/guest.cwasm
# The executable stands at the top, under the very name that host.json gives, with its mode.
run zip -q -X -j "$package" target/deploy/flexwasm
run az functionapp deployment source config-zip --resource-group "$group" --name "$name" --src "$package" \
  --build-remote false --timeout 600 --output none

host=$name.azurewebsites.net
if ! "$dry_run"; then
  host=$(az functionapp show --resource-group "$group" --name "$name" --query properties.defaultHostName --output tsv)
fi
echo "Done. Try: ./test_concurrency.sh https://$host/api/http_trigger 20 5"
