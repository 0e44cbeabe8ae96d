#!/usr/bin/env bash
# Creates or updates a Flex Consumption function app and publishes flexwasm to it. What is there already is kept and
# compared, so a second run changes only what differs, and a run that failed is repeated to go on.
set -euo pipefail

# `flexwasm deploy` runs this script, too, and names itself here: then it packs, and no repository is needed.
packer=${FLEXWASM_DEPLOYS:-} me=./deploy.sh beside='the demonstration beside this script'
[ -z "$packer" ] || me='flexwasm deploy' beside='the one in this folder'

usage() {
  cat <<END
Usage: $me [OPTIONS] [NAME]            creates or updates, and publishes
       $me --delete [OPTIONS] [NAME]   removes all of it, after asking

  NAME                  the function app, unique in all of Azure: 3 to 40 lower-case letters, digits and dashes, a letter
                        first; everything that it needs is made in a resource group of its own, rg-NAME.
                        Without it: flexwasm- and eight digits, which follow from the subscription and the app's folder

  --app FOLDER          the app to deploy; default: $beside

  --location REGION     as az writes it; default eastasia                           LOCATION
  --instance-memory MB  512, 2048 (default) or 4096                                 INSTANCE_MEMORY
  --max-instances N     1 to 1000, default 100                                      MAXIMUM_INSTANCES
  --always-ready N      instances that never stop and are billed while idle;
                        0 (default) to the maximum                                  ALWAYS_READY
  --storage-auth HOW    identity (default): the app reads its storage by its role;
                        connection-string: by a key in its settings                 STORAGE_AUTH
  --subscription ID     or its name; default: the one that az uses                  SUBSCRIPTION
  --zip FILE            check and publish this package instead of building one; it is
                        refused if it is older than the sources here
  --dry-run             print every command that changes something, run none, ask Azure nothing
  --yes                 with --delete: do not ask
  --help

The variables on the right do the same as the options. How many requests an instance gets at the same time is not an option:
it is the pool size in the package's host.json. Making the app's role needs Owner, or Contributor with Role Based Access Control
Administrator.

Exit status: 0 done, 1 a step failed, 2 a wrong call.
END
}

fail() {
  echo "${me#./}: $1" >&2
  exit "${2:-1}"
}

refuse() { fail "$1; see $me --help" 2; }

location=${LOCATION:-eastasia} memory=${INSTANCE_MEMORY:-2048} maximum=${MAXIMUM_INSTANCES:-100}
always_ready=${ALWAYS_READY:-0} storage_auth=${STORAGE_AUTH:-identity} subscription=${SUBSCRIPTION:-}
dry_run=false delete=false yes=false name='' package='' folder=''
while [ $# -gt 0 ]; do
  case $1 in
    --location | --instance-memory | --max-instances | --always-ready | --storage-auth | --subscription | --zip | --app)
      [ -n "${2:-}" ] || refuse "$1 needs a value"
      case $1 in
        --location) location=$2 ;;
        --instance-memory) memory=$2 ;;
        --max-instances) maximum=$2 ;;
        --always-ready) always_ready=$2 ;;
        --storage-auth) storage_auth=$2 ;;
        --subscription) subscription=$2 ;;
        --zip) package=$(realpath --canonicalize-missing -- "$2") ;;
        --app) folder=$(realpath --canonicalize-missing -- "$2") ;;
      esac
      shift ;;
    -h | --help) usage; exit 0 ;;
    --dry-run) dry_run=true ;;
    --delete) delete=true ;;
    --yes) yes=true ;;
    -*) refuse "unknown option $1" ;;
    '') refuse "NAME is '': leave it out to have one made" ;;
    *) [ -z "$name" ] || refuse "one NAME is enough: '$name' and '$1'"; name=$1 ;;
  esac
  shift
done
here=''
if [ -z "$packer" ]; then
  cd "$(dirname "$0")"
  here=$(pwd -P)
fi
folder=${folder:-$(pwd -P)}
[ -f "$folder/host.json" ] || refuse "--app: $folder is no app, because it has no host.json"

# az checks none of these numbers, and Azure only after half of it is made.
whole() {
  if ! [[ $2 =~ ^[0-9]{1,5}$ ]] || [ "$((10#$2))" -lt "$3" ] || [ "$((10#$2))" -gt "$4" ]; then
    refuse "$1 is '$2', but must be a whole number from $3 to $4"
  fi
}
[ -z "$name" ] || [[ $name =~ ^[a-z][a-z0-9-]{1,38}[a-z0-9]$ ]] ||
  refuse "NAME is '$name', but must be 3 to 40 lower-case letters, digits and dashes, a letter first and no dash last"
[[ $location =~ ^[a-z][a-z0-9]+$ ]] ||
  refuse "--location is '$location', but must be written as az does, such as eastasia"
case $memory in 512 | 2048 | 4096) ;; *) refuse "--instance-memory is '$memory', but must be 512, 2048 or 4096" ;; esac
whole --max-instances "$maximum" 1 1000
whole --always-ready "$always_ready" 0 "$maximum"
maximum=$((10#$maximum)) always_ready=$((10#$always_ready))
case $storage_auth in
  identity) deployment_auth=SystemAssignedIdentity ;;
  connection-string) deployment_auth=StorageAccountConnectionString ;;
  *) refuse "--storage-auth is '$storage_auth', but must be identity or connection-string" ;;
esac

flexwasm() { (cd "$folder" && exec "$packer" "$@"); }

making=(cargo xtask package)
if [ -n "$packer" ]; then
  making=(flexwasm package)
elif [ "$folder" != "$here" ]; then
  making+=(--app "$folder")
fi

# Nothing deploys an old build by mistake; what a build leaves beside its sources is none of them.
check_package() {
  local newer sources=("$folder")
  [ -n "$packer" ] || sources+=(Cargo.toml Cargo.lock crates host/Cargo.toml host/src wit)
  [ "$folder" != "$here" ] || sources=("${sources[@]:1}" host.json ./*/function.json guest)
  [ -f "$package" ] || refuse "--zip: $package is not there: make it with '${making[*]}'"
  newer=$(find "${sources[@]}" \( -name target -o -name node_modules -o -name .venv -o -name dist \) -prune -o \
    -type f ! -name '*.wasm' ! -name '*.cwasm' ! -path "$folder/flexwasm" -newer "$package" -print -quit)
  [ -z "$newer" ] || refuse "--zip: $package is older than $newer: make it anew with '${making[*]}'"
}
[ -z "$package" ] || "$delete" || check_package

# Storage Blob Data Owner: what the Functions host needs for its keys and locks, and the platform for the package.
roles=(b7e6dc6d-f1e8-4753-8033-0f276bb0955b)
# Storage Queue Data Contributor and Storage Table Data Contributor: what bindings need besides.
queue_role=974c5e8b-45b9-4653-ba55-5f855dd0fb88 table_role=0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3

# A message of az is an error, or it is noise beside ours; an extension is never installed along the way.
export AZURE_CORE_ONLY_SHOW_ERRORS=true AZURE_CORE_NO_COLOR=true AZURE_EXTENSION_USE_DYNAMIC_INSTALL=no
where=()
[ -z "$subscription" ] || where=(--subscription "$subscription")
work=$(mktemp -d) ticker=''
trap '[ -z "$ticker" ] || kill "$ticker"; rm -rf "$work"' EXIT
trap 'echo; fail "interrupted: run the same command again, it goes on from what is there" 130' INT TERM

step=0 title=''
begin() {
  step=$((step + 1)) title=$1
  echo "Step $step of $steps: $title"
}

show() {
  printf '+'
  printf ' %q' "$@"
  printf '\n'
}

# Runs a command quietly, with a line every 15 seconds so that nobody takes it for stuck.
attempt() {
  local status=0
  (while sleep 15 >/dev/null 2>&1; do echo "  ... still busy, $SECONDS s since the start"; done) &
  ticker=$!
  "$@" >"$work/output" 2>"$work/errors" </dev/null || status=$?
  kill "$ticker"
  wait "$ticker" 2>/dev/null || true
  ticker=''
  return "$status"
}

# Ends the run: which step, the last error without what might be a secret, and what to do.
failed() {
  local advice="run the same command again: it goes on from what is there. To remove that: $me --delete $name"
  case $(<"$work/errors") in
    *"az login"* | *AADSTS*) advice="run 'az login', then the same command again" ;;
    *AuthorizationFailed* | *"does not have authorization"*)
      advice="your account may not do this: it needs Owner, or Contributor with Role Based Access Control Administrator" ;;
    *"not registered"*) advice="register what is named there with 'az provider register --wait --namespace ...', then run this again" ;;
    *[Qq]uota*) advice="ask for a higher quota, or choose another --location" ;;
  esac
  {
    echo "${me#./}: step $step of $steps ($title) failed:"
    sed -E -e '/^(Code|Message):/d' -e '/^[[:space:]]*$/d' \
      -e 's/(AccountKey|SharedAccessKey|InstrumentationKey|sig|code|client_secret|password)=[^;&" ]+/\1=***/gI' \
      "$work/errors" | tail -n 5 | cut -c 1-1000 | sed 's/^/  /'
    echo "${me#./}: what to do: ${1:-$advice}"
  } >&2
  exit 1
}

# Changes something in Azure: is shown, and in a dry run only that.
change() {
  local command=(az "$@" "${where[@]}" --output none)
  show "${command[@]}"
  "$dry_run" || attempt "${command[@]}" || failed
}

# Asks Azure for one value, by a query; in a dry run nothing is known to be there, so that every command is shown.
ask() { "$dry_run" || az "$@" "${where[@]}" --output tsv 2>"$work/errors" </dev/null || failed; }

has() { grep -qixF -- "$1" <<<"$present"; }

# The list of resources may lag behind by minutes, and an app must not be created twice.
has_app() { [ -n "$app" ]; }

check_tools() {
  local tools=(az)
  "$delete" || tools+=(curl)
  "$delete" || [ -n "$packer" ] || tools+=(cargo)
  for tool in "${tools[@]}"; do
    command -v "$tool" >/dev/null && continue
    case $tool in
      az) fail "az is needed and was not found: install it as https://learn.microsoft.com/cli/azure/install-azure-cli says" ;;
      cargo) fail "cargo is needed and was not found: install Rust with rustup, from https://rustup.rs" ;;
      *) fail "$tool is needed and was not found: install it, on Debian with 'apt-get install $tool'" ;;
    esac
  done
  # The first that ends its look at a new Flex Consumption app: 2.86 polls for ever (azure-cli pull request 33388).
  local oldest=2.87.0 version
  version=$(az version --query '"azure-cli"' --output tsv)
  [ "$(printf '%s\n' "$oldest" "$version" | sort -V | head -n 1)" = "$oldest" ] ||
    fail "az is version $version, but must be $oldest or newer: run 'az upgrade'"
}

# The subscription's id; az answers from its own files, so a login that has run out shows only later.
find_subscription() {
  if az account show "${where[@]}" --query id --output tsv 2>"$work/errors"; then return; fi
  [ -n "$subscription" ] && [ -n "$(az account list --query '[].id' --output tsv 2>/dev/null)" ] &&
    fail "--subscription is '$subscription', which az does not know: 'az account list' shows those that it does"
  fail "not logged in: run 'az login' first"
}

# What is in our resource group, one "type/name" a line. A group that somebody else made is not ours to change or delete.
look() {
  local found tag
  present='' app=''
  found=$(ask group list --query "[?name=='$group'].[location, to_string(tags.flexwasm)]")
  [ -n "$found" ] || return 0
  read -r group_location tag <<<"$found"
  [ "$tag" = "$name" ] || fail "the resource group $group is there, but deploy.sh did not make it: choose another NAME, or, \
if it may be changed and deleted, run: az group update --name $group --set tags.flexwasm=$name"
  present=$group$'\n'$(ask resource list --resource-group "$group" --query "[].join('/', [type, name])")
  app=$(ask functionapp list --resource-group "$group" --query "[?name=='$name'].name")
}

remove() {
  local answer
  begin "look at what is there"
  look
  if ! "$dry_run" && ! has "$group"; then
    echo "There is no resource group $group: nothing to delete."
    exit 0
  fi
  begin "delete the resource group $group"
  tail -n +2 <<<"$present" | sed 's/^/  /'
  if ! "$yes" && ! "$dry_run"; then
    read -r -p "All of this will be gone. Type $name to delete it: " answer || echo
    [ "$answer" = "$name" ] || fail "nothing is deleted: the answer was not '$name' (--yes does not ask)"
  fi
  change group delete --name "$group" --yes
  "$dry_run" || echo "Deleted."
  exit 0
}

subscription_id=SUBSCRIPTION_ID
if ! "$dry_run"; then
  check_tools
  subscription_id=$(find_subscription)
fi
if [ -z "$name" ] && "$dry_run"; then
  name=flexwasm-00000000
  echo "NAME is not given: $name stands for flexwasm- and eight digits that follow from the subscription and the app's folder"
elif [ -z "$name" ]; then
  digest=$(printf '%s\n' "$subscription_id" "$folder" | sha256sum)
  name=flexwasm-${digest:0:8}
  echo "NAME is not given: it is $name, as always for this subscription and this app's folder"
fi
# As unique as NAME, which is too long for a storage account and has dashes.
digest=$(printf %s "$name" | sha256sum)
letters=${name//-/}
group=rg-$name storage=st${letters:0:14}${digest:0:8} container=app-package logs=log-$name insights=ai-$name

if "$delete"; then
  steps=2
  remove
fi

steps=8
begin "look at what is there"
look
if has "$group" && [ "$group_location" != "$location" ]; then
  fail "the resource group $group is in $group_location: give --location $group_location, or choose another NAME"
fi
if ! "$dry_run" && ! has_app; then
  regions=$(ask functionapp list-flexconsumption-locations --query "[].name")
  grep -qxF "$location" <<<"$regions" ||
    fail "--location is '$location', but Flex Consumption is offered in: $(sort <<<"$regions" | paste -sd ' ')"
  taken=$(ask rest --method post --url "/subscriptions/$subscription_id/providers/Microsoft.Web/checknameavailability?api-version=2024-04-01" \
    --body "{\"name\":\"$name\",\"type\":\"Site\"}" --query "nameAvailable || message")
  [ "${taken,,}" = true ] || fail "NAME is '$name', which Azure does not give, choose another one: $taken"
fi
if ! "$dry_run" && ! has "Microsoft.Storage/storageAccounts/$storage"; then
  taken=$(ask storage account check-name --name "$storage" --query "nameAvailable || message")
  [ "${taken,,}" = true ] || fail "the storage account $storage cannot be made, choose another NAME: $taken"
fi

# A number or a truth from what the host said about the package: the JSON has a line for each key, and only this key has the name.
checked() { sed -n "s/^ *\"$1\": \([0-9a-z]*\),\{0,1\}\$/\1/p" "$report"; }

# The texts of a list in its part for us, one a line.
listed() {
  sed -n '/^  "deploy": {$/,/^  }/p' "$report" |
    sed -n "/^    \"$1\": \[\$/,/^    \]/s/^ *\"\(.*\)\"\(,\{0,1\}\)\$/\1/p"
}

# Makes the package, or checks the one that is given, and leaves what is told of it in $report.
make_package() {
  "${making[@]}" || return
  [ -z "$packer" ] || flexwasm check --json --package "$package" >"$report"
}

begin "package"
report=target/package/check.json
if [ -n "$packer" ]; then
  report=$work/check.json
  [ -z "$package" ] || making=(flexwasm check --package "$package")
elif [ -n "$package" ]; then
  making=(cargo xtask package --check "$package")
fi
package=${package:-$folder/dist/flexwasm.zip}
show "${making[@]}"
concurrency=POOL_SIZE request_body=LARGEST_REQUEST_BODY functions='' connections=''
if ! "$dry_run"; then
  make_package ||
    fail "step $step of $steps ($title) failed: nothing in Azure is changed; correct what is reported there"
  # One number for the pool and for the platform, as the host itself reads it: what is sent to an instance is what it can run.
  concurrency=$(checked perInstanceConcurrency)
  whole "host.json: the pool size" "$concurrency" 1 1000
  # Azure's Functions host holds a body of known length whole, several times, before the limits of ours are asked.
  request_body=$(checked requestBodySizeLimit)
  [ "$(checked storageQueues)" != true ] || roles+=("$queue_role")
  [ "$(checked storageTables)" != true ] || roles+=("$table_role")
  functions=$(listed functions) connections=$(listed connections)
fi

begin "resource group $group in $location"
has "$group" || change group create --name "$group" --location "$location" --tags "flexwasm=$name"

begin "storage account $storage"
resources=/subscriptions/$subscription_id/resourceGroups/$group/providers
storage_id=$resources/Microsoft.Storage/storageAccounts/$storage
has "Microsoft.Storage/storageAccounts/$storage" ||
  change storage account create --name "$storage" --resource-group "$group" --location "$location" --sku Standard_LRS \
    --allow-blob-public-access false --min-tls-version TLS1_2

begin "logs: $logs and $insights"
has "Microsoft.OperationalInsights/workspaces/$logs" ||
  change monitor log-analytics workspace create --workspace-name "$logs" --resource-group "$group" --location "$location"
# 'az monitor app-insights' would be an extension.
has "Microsoft.Insights/components/$insights" ||
  change resource create --name "$insights" --resource-group "$group" --resource-type Microsoft.Insights/components \
    --api-version 2020-02-02 --is-full-object --properties "{\"location\":\"$location\",\"kind\":\"web\",\"properties\":\
{\"Application_Type\":\"web\",\"WorkspaceResourceId\":\"$resources/Microsoft.OperationalInsights/workspaces/$logs\"}}"

begin "function app $name ($memory MB, up to $maximum instances with $concurrency requests each)"
if ! has_app; then
  # A creation that was cut off leaves a plan, and the next one would make a second.
  sed -n 's#^Microsoft.Web/serverFarms/##Ip' <<<"$present" | while read -r orphan; do
    change functionapp plan delete --name "$orphan" --resource-group "$group" --yes
  done
  # Named by us and made before: az would make another one, with a number in its name, at every attempt.
  change storage container-rm create --name "$container" --storage-account "$storage" --resource-group "$group"
  # No --runtime-version: az refuses the one that Azure wants, and sends it by itself.
  change functionapp create --name "$name" --resource-group "$group" --storage-account "$storage" \
    --flexconsumption-location "$location" --runtime custom --instance-memory "$memory" \
    --maximum-instance-count "$maximum" --https-only true --app-insights "$insights" \
    --deployment-storage-name "$storage" --deployment-storage-container-name "$container" \
    --deployment-storage-auth-type "$deployment_auth"
fi
site=(--name "$name" --resource-group "$group")
has_memory='' has_maximum='' has_concurrency='' has_ready=null has_https=true has_auth=$deployment_auth principal=PRINCIPAL_ID host=''
if ! "$dry_run"; then
  config=properties.functionAppConfig
  state=$(ask functionapp show "${site[@]}" --query "join(' ', map(&to_string(@), [$config.scaleAndConcurrency.instanceMemoryMB,
    $config.scaleAndConcurrency.maximumInstanceCount, $config.scaleAndConcurrency.triggers.http.perInstanceConcurrency,
    $config.scaleAndConcurrency.alwaysReady[?name=='http'] | [0].instanceCount, properties.httpsOnly,
    $config.deployment.storage.authentication.type, identity.principalId, properties.defaultHostName]))")
  read -r has_memory has_maximum has_concurrency has_ready has_https has_auth principal host <<<"$state"
fi
[ "${has_auth,,}" = "${deployment_auth,,}" ] ||
  fail "the app was made with another --storage-auth ($has_auth): give that one, or remove it first: $me --delete $name"
[ "$has_memory $has_maximum $has_concurrency" = "$memory $maximum $concurrency" ] ||
  change functionapp scale config set "${site[@]}" --instance-memory "$memory" --maximum-instance-count "$maximum" \
    --trigger-type http --trigger-settings "perInstanceConcurrency=$concurrency"
if [ "$always_ready" -gt 0 ] && [ "$has_ready" != "$always_ready" ]; then
  change functionapp scale config always-ready set "${site[@]}" --settings "http=$always_ready"
elif [ "$always_ready" -eq 0 ] && [ "$has_ready" != null ]; then
  change functionapp scale config always-ready delete "${site[@]}" --setting-names http
fi
[ "$has_https" = true ] || change functionapp update "${site[@]}" --set httpsOnly=true
if [ "$storage_auth" = identity ]; then
  if [ "$principal" = null ]; then
    change functionapp identity assign "${site[@]}"
    principal=$(ask functionapp identity show "${site[@]}" --query principalId)
  fi
  # The deployment's own role is az's doing; these are for the Functions host, and the first of them holds for both.
  held=$(ask role assignment list --scope "$storage_id" --fill-principal-name false \
    --query "[?principalId=='$principal'].roleDefinitionId")
  for role in "${roles[@]}"; do
    grep -q "/$role\$" <<<"$held" || change role assignment create --assignee-object-id "$principal" \
      --assignee-principal-type ServicePrincipal --role "$role" --scope "$storage_id"
  done
fi
settings=$(ask functionapp config appsettings list "${site[@]}" \
  --query "[].join('=', [name, (name=='FUNCTIONS_REQUEST_BODY_SIZE_LIMIT' || name=='AzureWebJobsStorage__accountName') && value || ''])")
wanted=("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT=$request_body") missing=()
[ "$storage_auth" != identity ] || wanted+=("AzureWebJobsStorage__accountName=$storage")
for setting in "${wanted[@]}"; do
  grep -qxF -- "$setting" <<<"$settings" || missing+=("$setting")
done
[ ${#missing[@]} -eq 0 ] || change functionapp config appsettings set "${site[@]}" --settings "${missing[@]}"
for connection in $connections; do
  grep -qE "^(AzureWebJobs)?$connection(__[^=]+)?=" <<<"$settings" ||
    echo "  note: bindings use the connection $connection, which the app has no setting for; docs/deploy.md says how to allow it"
done
# az always writes the key of the storage account into the settings.
if [ "$storage_auth" = identity ] && { "$dry_run" || grep -qx AzureWebJobsStorage= <<<"$settings"; }; then
  change functionapp config appsettings delete "${site[@]}" --setting-names AzureWebJobsStorage
fi

begin "publish (az waits a minute for the app at the end)"
publish=(az functionapp deployment source config-zip "${site[@]}" --src "$package" --build-remote false --timeout 600
  "${where[@]}" --output none)
show "${publish[@]}"
# A new role takes up to ten minutes to reach the storage.
tries=20
while ! "$dry_run" && ! attempt "${publish[@]}"; do
  # The package is in place; whether the app is well is what the last step finds out.
  if grep -qE 'Deployment was successful but|Failed to fetch host key' "$work/errors"; then break; fi
  tries=$((tries - 1))
  if [ "$storage_auth" != identity ] || [ "$tries" -eq 0 ] ||
    ! grep -qE 'Status Code: 403|Forbidden|BlobUploadFailed|not authorized to perform' "$work/errors"; then
    failed
  fi
  echo "  the app may not use its storage yet; another attempt in 30 s, at most $tries more"
  sleep 30
done

[ -n "$host" ] || host=$name.azurewebsites.net
if [ "$folder" != "$here" ]; then
  # What an app answers is its own affair, and its functions may need a key: Azure knows them once the Functions host has read them.
  begin "wait until Azure lists the functions of $name"
  "$dry_run" && exit
  tries=60
  while true; do
    known=$(ask functionapp function list "${site[@]}" --query "[].name")
    # It calls them APP/FUNCTION.
    unlisted=$(grep -vxF -f <(printf %s "${known//$name\//}") <<<"$functions" || true)
    [ -n "$unlisted" ] || break
    tries=$((tries - 1))
    if [ "$tries" -eq 0 ]; then
      echo "Azure does not list ${unlisted//$'\n'/, }" >"$work/errors"
      failed "look at the app's log in $insights, then run the same command again"
    fi
    sleep 5
  done
  echo "Deployed: https://$host, with ${functions//$'\n'/, }"
  exit
fi
url=https://$host/api/http_trigger
begin "wait until $url answers"
call="$url?name=$name&delay=0.1"
show curl "$call"
"$dry_run" && exit
tries=60
until status=$(curl --silent --show-error --max-time 30 --output "$work/answer" --write-out '%{http_code}' "$call" \
  2>"$work/errors") && [ "$status" = 200 ]; do
  tries=$((tries - 1))
  if [ "$tries" -eq 0 ]; then
    [ "$status" = 000 ] || { echo "HTTP $status"; head -c 300 "$work/answer"; } >"$work/errors"
    failed "look at the app's log in $insights, then run the same command again"
  fi
  [ $((tries % 6)) -ne 0 ] || echo "  ... HTTP $status, $SECONDS s since the start"
  sleep 5
done
head -c 1000 "$work/answer"
echo
echo "Deployed: $url"
echo "Try: ./test_concurrency.sh $url 20 5"
