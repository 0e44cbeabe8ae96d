"""What deploy.sh does to Azure, and what it says when something is wrong.

Whole runs take many seconds each, so they are fixtures: one story of an app from its first run to its end, told in the order of the
fixtures, and one of an app whose first run breaks off. The tests only look at what happened.
"""

import json
import os
import re
import sys
import zipfile

import pytest

from azure import INSTRUMENTATION_KEY, MASTER_KEY, PRINCIPAL, SECRETS, STORAGE_KEY, SUBSCRIPTION, find, of_type, writes
from conftest import PACKAGE, ROOT, change_package

POOL = json.loads((ROOT / "host.json").read_text())["extensions"]["http"]["maxConcurrentRequests"]
OWNER, CONTRIBUTOR = "b7e6dc6d-f1e8-4753-8033-0f276bb0955b", "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
QUEUES = "974c5e8b-45b9-4653-ba55-5f855dd0fb88"


def the(resources, kind):
    """The only resource of a type."""
    found = of_type(resources, kind)
    assert len(found) == 1, [each["id"] for each in found]
    return found[0]


def scale(done):
    return the(done.resources, "Microsoft.Web/sites")["properties"]["functionAppConfig"]["scaleAndConcurrency"]


def assert_stopped(done, *words, status=1):
    """One line on stderr, with these words, and nothing in Azure changed."""
    assert done.returncode == status, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr
    assert writes(done.requests) == []


def assert_failed(done, step, error, advice):
    """A step of the run failed, and stderr says which, why and what to do."""
    assert done.returncode == 1, done.stdout + done.stderr
    first, *middle, last = done.stderr.strip().splitlines()
    assert re.fullmatch(r"deploy.sh: step \d of \d \(%s.*\) failed:" % step, first), first
    assert error in "\n".join(middle)
    assert last.startswith("deploy.sh: what to do: ") and advice in last


# The story of app-one: made, deployed again, changed, refused, deleted.


@pytest.fixture(scope="session")
def second(world, first):
    return world.deploy("--subscription", SUBSCRIPTION, "--zip", "dist/flexwasm.zip", "app-one")


@pytest.fixture(scope="session")
def changed(world, second):
    """Another size; somebody switched https-only off and took the identity away; the package is no good."""
    site = the(world.azure.resources, "Microsoft.Web/sites")
    site["properties"]["httpsOnly"] = False
    del site["identity"]
    world.azure.deployment_status = 3
    environment = {"INSTANCE_MEMORY": "4096", "MAXIMUM_INSTANCES": "7", "ALWAYS_READY": "2"}
    done = world.deploy("--max-instances", "200", "app-one", **environment)
    world.azure.deployment_status = 4
    return done


@pytest.fixture(scope="session")
def kept(world, changed):
    return world.deploy("--delete", "app-one", answer="yes\n")


@pytest.fixture(scope="session")
def deleted(world, kept):
    return world.deploy("--delete", "app-one", answer="app-one\n")


def test_first_run_succeeds(first, world):
    assert first.returncode == 0, first.stderr
    url = f"https://{world.azure.host}/api/http_trigger"
    assert f"Deployed: {url}\nTry: ./test_concurrency.sh {url} 20 5\n" in first.stdout
    assert '{"message": "Hello, app-one."}' in first.stdout
    assert (world.folder / "cargo.log").read_text().startswith("xtask package\n")


def test_site_is_what_flex_consumption_needs(first):
    created = find(first.requests, "PUT", "/sites/app-one")[0]["body"]
    properties = created["properties"]
    assert created["kind"] == "functionapp,linux"
    assert properties["httpsOnly"] is True
    config = properties["functionAppConfig"]
    assert config["runtime"] == {"name": "custom", "version": "1.0"}
    assert config["deployment"]["storage"]["authentication"]["type"] == "SystemAssignedIdentity"
    assert config["deployment"]["storage"]["value"].endswith(".blob.core.windows.net/app-package")
    assert scale(first) == {
        "instanceMemoryMB": 2048,
        "maximumInstanceCount": 100,
        "alwaysReady": [],
        "triggers": {"http": {"perInstanceConcurrency": POOL}},
    }
    plan = the(first.resources, "Microsoft.Web/serverfarms")
    assert plan["sku"]["name"] == "FC1"
    assert properties["serverFarmId"] == plan["id"]


def test_storage_is_private_and_read_by_role(first):
    account = the(first.resources, "Microsoft.Storage/storageAccounts")
    assert account["properties"]["allowBlobPublicAccess"] is False
    assert account["properties"]["minimumTlsVersion"] == "TLS1_2"
    roles = of_type(first.resources, "Microsoft.Authorization/roleAssignments")
    assert {r["properties"]["roleDefinitionId"].split("/")[-1] for r in roles} == {OWNER, CONTRIBUTOR}
    assert {r["properties"]["principalId"] for r in roles} == {PRINCIPAL}
    assert {r["properties"]["scope"] for r in roles} == {account["id"]}
    (settings,) = first.settings.values()
    assert settings["AzureWebJobsStorage__accountName"] == account["name"]
    assert settings["APPLICATIONINSIGHTS_CONNECTION_STRING"].startswith("InstrumentationKey=")
    assert settings["FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"] == str(100 << 20)
    assert STORAGE_KEY not in json.dumps(settings)


def test_settings_that_flex_consumption_refuses_are_absent(first):
    (settings,) = first.settings.values()
    refused = {"FUNCTIONS_WORKER_RUNTIME", "FUNCTIONS_EXTENSION_VERSION", "WEBSITE_RUN_FROM_PACKAGE", "SCM_DO_BUILD_DURING_DEPLOYMENT"}
    assert not refused & set(settings)


def test_logs_go_to_a_workspace_of_the_app(first):
    insights = the(first.resources, "Microsoft.Insights/components")
    workspace = the(first.resources, "Microsoft.OperationalInsights/workspaces")
    assert insights["properties"]["WorkspaceResourceId"].lower() == workspace["id"].lower()


def test_everything_is_in_the_region(first):
    for resource in first.resources.values():
        assert resource.get("location", "eastasia") == "eastasia", resource["id"]


def test_package_is_sent_as_it_is_until_the_role_works(first):
    sent = find(first.requests, "POST", "/api/publish")
    assert [request["status"] for request in sent] == [403, 400, 202]
    assert sent[-1]["zip"] == {
        "flexwasm": (3, 0o100755),
        "host.json": (3, 0o100644),
        "http_trigger/function.json": (3, 0o100644),
        "http_trigger/guest.cwasm": (3, 0o100644),
        "http_trigger/guest.wasm": (3, 0o100644),
    }
    assert sent[-1]["query"]["RemoteBuild"] == "false"
    assert "may not use its storage yet" in first.stdout


def test_second_run_changes_nothing(first, second):
    assert second.returncode == 0, second.stderr
    assert writes(second.requests) == []
    assert (second.resources, second.settings) == (first.resources, first.settings)
    assert len(find(second.requests, "POST", "/api/publish")) == 1
    the(second.resources, "Microsoft.Web/serverfarms")
    the(second.resources, "Microsoft.Storage/storageAccounts/blobServices/containers")


def test_given_package_is_checked_not_built(second, world):
    commands = re.findall(r"^\+ cargo .*", second.stdout, re.M)
    assert commands == [f"+ cargo xtask package --check {world.app}/dist/flexwasm.zip"]


def test_other_values_reach_the_app(changed):
    assert scale(changed) == {
        "instanceMemoryMB": 4096,
        "maximumInstanceCount": 200,
        "alwaysReady": [{"name": "http", "instanceCount": 2}],
        "triggers": {"http": {"perInstanceConcurrency": POOL}},
    }


def test_what_was_undone_is_done_again(changed):
    site = the(changed.resources, "Microsoft.Web/sites")
    assert site["properties"]["httpsOnly"] is True
    assert site["properties"]["functionAppConfig"]["runtime"] == {"name": "custom", "version": "1.0"}
    assert site["identity"]["principalId"] == PRINCIPAL


def test_failed_deployment_tells_step_error_and_remedy(changed):
    assert_failed(changed, "publish", "the package has no host.json", "run the same command again")
    assert len(find(changed.requests, "POST", "/api/publish")) == 1


def test_deletion_wants_the_name(changed, kept):
    assert_stopped(kept, "nothing is deleted")
    assert "Microsoft.Web/sites/app-one" in kept.stdout
    assert kept.resources == changed.resources


def test_deletion_deletes_the_group(deleted):
    assert deleted.returncode == 0, deleted.stderr
    (request,) = writes(deleted.requests)
    assert (request["method"], request["path"].split("/")[-1]) == ("DELETE", "rg-app-one")
    assert deleted.resources == {}


def test_deletion_of_nothing_succeeds(world, deleted):
    done = world.deploy("--delete", "--yes", "app-one")
    assert (done.returncode, writes(done.requests)) == (0, [])
    assert "nothing to delete" in done.stdout


# The story of app-two, with a connection string: its name is lost at the last moment, then its app does not answer.


@pytest.fixture(scope="session")
def broken(world, deleted):
    world.azure.site_conflicts = 1
    return world.deploy("--storage-auth", "connection-string", "app-two")


@pytest.fixture(scope="session")
def silent(world, broken):
    """A plan is left over, as from a run that was killed; the host is not well, and the app never answers."""
    plan = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-app-two/providers/Microsoft.Web/serverfarms/ASP-left-over"
    world.azure.resources[plan.lower()] = {"id": plan, "name": "ASP-left-over", "type": "Microsoft.Web/serverFarms", "properties": {}}
    world.azure.host_statuses = [503] * 15
    world.azure.app_statuses = [502] * 60
    return world.deploy("app-two", STORAGE_AUTH="connection-string")


def test_creation_that_fails_leaves_no_plan(broken):
    assert_failed(broken, "function app app-two", "Website with given name app-two already exists", "run the same command again")
    assert of_type(broken.resources, "Microsoft.Web/serverfarms") == []
    assert of_type(broken.resources, "Microsoft.Web/sites") == []


def test_next_run_goes_on_with_one_plan_and_one_container(silent):
    plan = the(silent.resources, "Microsoft.Web/serverfarms")
    assert plan["name"] != "ASP-left-over"
    the(silent.resources, "Microsoft.Web/sites")
    the(silent.resources, "Microsoft.Storage/storageAccounts/blobServices/containers")
    assert find(silent.requests, "PUT", "/resourcegroups/rg-app-two") == []
    assert find(silent.requests, "PUT", "/workspaces/log-app-two") == []


def test_connection_string_needs_no_role(silent):
    assert of_type(silent.resources, "Microsoft.Authorization/roleAssignments") == []
    (settings,) = silent.settings.values()
    assert STORAGE_KEY in settings["DEPLOYMENT_STORAGE_CONNECTION_STRING"]


def test_app_that_never_answers_fails_the_last_step(silent):
    assert_failed(silent, "wait until https://", 'HTTP 502', "ai-app-two")


def test_other_storage_auth_is_refused_for_an_app_that_is_there(world, silent):
    done = world.deploy("app-two")
    assert_stopped(done, "StorageAccountConnectionString", "--delete app-two")


def test_other_region_is_refused_for_a_group_that_is_there(world, silent):
    assert_stopped(world.deploy("--location", "eastus2", "app-two"), "is in eastasia", "--location eastasia")


# The story of app-events: another app, deployed and deployed again.


@pytest.fixture(scope="session")
def events(world, silent):
    world.azure.unlisted = 2
    return world.deploy("--app", "examples/events", "app-events")


@pytest.fixture(scope="session")
def events_again(world, events):
    """By the command, in a folder with the same app and without sources, on a machine without Rust."""
    folder = world.folder / "app-events"
    with zipfile.ZipFile(world.folder / "events.zip") as packed:
        packed.extractall(folder)
    (world.bin / "cargo").rename(world.folder / "cargo")
    done = world.flexwasm_deploy(folder, "app-events")
    (world.folder / "cargo").rename(world.bin / "cargo")
    return done


def test_another_app_is_packed_and_published(events, world):
    assert events.returncode == 0, events.stdout + events.stderr
    assert f"+ cargo xtask package --app {world.app}/examples/events\n" in events.stdout
    (sent,) = find(events.requests, "POST", "/api/publish")
    assert {"intake/function.json", "nightly/function.json", "orders/function.json"} <= set(sent["zip"])
    assert f"Deployed: https://{world.azure.host}, with intake, nightly, orders\n" in events.stdout
    assert len(find(events.requests, "GET", "/sites/app-events/functions")) == 3


def test_queues_and_blobs_are_reached_by_roles_without_a_key(events):
    (account,) = [each for each in of_type(events.resources, "Microsoft.Storage/storageAccounts") if "appevents" in each["name"]]
    roles = of_type(events.resources, "Microsoft.Authorization/roleAssignments")
    held = [r["properties"]["roleDefinitionId"].split("/")[-1] for r in roles if r["properties"]["scope"] == account["id"]]
    assert sorted(held) == sorted([OWNER, CONTRIBUTOR, QUEUES])
    (settings,) = [settings for site, settings in events.settings.items() if site.endswith("/app-events")]
    assert settings["AzureWebJobsStorage__accountName"] == account["name"]
    assert "AzureWebJobsStorage" not in settings and STORAGE_KEY not in json.dumps(settings)


def test_another_app_that_is_there_is_only_published(events_again):
    assert events_again.returncode == 0, events_again.stderr
    assert writes(events_again.requests) == []


def test_the_command_packs_what_it_publishes(events_again):
    assert "+ flexwasm package\n" in events_again.stdout
    (sent,) = find(events_again.requests, "POST", "/api/publish")
    assert sent["zip"]["flexwasm"] == (3, 0o100755)
    assert {"intake/guest.cwasm", "nightly/function.json", "orders/guest.wasm"} <= set(sent["zip"])


def test_the_command_says_how_to_go_on(signed_out):
    bare = signed_out.folder / "bare"
    bare.mkdir()
    assert_stopped(signed_out.flexwasm_deploy(bare, "app"), "bare is no app", "see flexwasm deploy --help", status=2)
    app = signed_out.app / "examples/events"
    path = signed_out.path_without(["az", "cargo"])
    done = signed_out.flexwasm_deploy(app, "app", PATH=path)
    assert_stopped(done, "flexwasm deploy: az is needed", "install it as https://learn.microsoft.com/")
    done = signed_out.flexwasm_deploy(app, "--zip", "missing.zip", "app")
    assert_stopped(done, "missing.zip is not there: make it with 'flexwasm package'", status=2)
    shown = signed_out.flexwasm_deploy(app, "--dry-run", "app", PATH=path)
    assert shown.returncode == 0 and "+ flexwasm package\n" in shown.stdout and "cargo" not in shown.stdout
    usage = signed_out.flexwasm_deploy(app, "--help")
    assert usage.returncode == 0 and usage.stdout.startswith("Usage: flexwasm deploy [OPTIONS] [NAME] ")


# Refused by what Azure says, before anything is made.


def test_taken_name(world):
    world.azure.taken.add("app-taken")
    assert_stopped(world.deploy("app-taken"), "NAME is 'app-taken'", "taken already", "choose another one")


def test_region_without_the_plan(world):
    assert_stopped(world.deploy("--location", "moonbase1", "app-three"), "--location is 'moonbase1'", "eastasia eastus2")


@pytest.mark.parametrize("arguments", [["app-four"], ["--delete", "--yes", "app-four"]], ids=["deploy", "delete"])
def test_group_of_somebody_else_is_left_alone(world, arguments):
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-app-four"
    world.azure.resources[group.lower()] = {
        "id": group, "name": "rg-app-four", "type": "Microsoft.Resources/resourceGroups", "location": "eastasia", "properties": {},
    }  # fmt: skip
    done = world.deploy(*arguments)
    assert_stopped(done, "rg-app-four is there", "choose another NAME", "az group update --name rg-app-four --set tags.flexwasm=app-four")
    del world.azure.resources[group.lower()]


@pytest.mark.parametrize(
    ("changes", "words", "status"),
    [
        ({"mode": 0o100644}, ["step 2 of 8 (package) failed: nothing in Azure is changed"], 1),
        ({"host_json": lambda host: host["flexwasm"].update(pool={"size": 2000})}, ["the pool size is '2000'", "1 to 1000"], 2),
    ],
    ids=["made elsewhere", "pool too large"],
)
def test_package_that_azure_cannot_run(world, changes, words, status):
    package = world.app / "changed.zip"
    change_package(package, **changes)
    done = world.deploy("--zip", "changed.zip", "app-nine")
    assert done.returncode == status
    for word in words:
        assert word in done.stderr.splitlines()[-1]
    assert writes(done.requests) == []
    if "mode" in changes:
        assert "flexwasm: has mode 100644" in done.stderr


def test_wrong_subscription(world):
    assert_stopped(world.deploy("--subscription", "nobodys", "app-five"), "--subscription is 'nobodys'", "az account list")


def test_not_logged_in(signed_out):
    assert_stopped(signed_out.deploy("app-six"), "not logged in", "az login")
    assert signed_out.azure.requests == []


# Refused before Azure is asked.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([""], ["NAME is ''"]),
        (["App"], ["NAME is 'App'"]),
        (["-app"], ["unknown option -app"]),
        (["app-"], ["NAME is 'app-'"]),
        (["a" * 41], ["NAME is 'aaa"]),
        (["one", "two"], ["one NAME is enough"]),
        (["--location", "East Asia", "app"], ["--location is 'East Asia'", "eastasia"]),
        (["--instance-memory", "1024", "app"], ["--instance-memory is '1024'", "512, 2048 or 4096"]),
        (["--max-instances", "0", "app"], ["--max-instances is '0'", "1 to 1000"]),
        (["--max-instances", "1001", "app"], ["--max-instances is '1001'", "1 to 1000"]),
        (["--max-instances", "many", "app"], ["--max-instances is 'many'"]),
        (["--max-instances", "9", "--always-ready", "10", "app"], ["--always-ready is '10'", "0 to 9"]),
        (["--storage-auth", "none", "app"], ["--storage-auth is 'none'", "identity or connection-string"]),
        (["--zip", "missing.zip", "app"], ["missing.zip is not there", "cargo xtask package"]),
        (["--zip"], ["--zip needs a value"]),
        (["--app", "wit", "app"], ["--app: ", "wit is no app, because it has no host.json"]),
        (["--force", "app"], ["unknown option --force"]),
    ],
    ids=lambda value: " ".join(value)[:40] if value and value[0] not in ("",) else "",
)
def test_bad_input(signed_out, arguments, words):
    assert_stopped(signed_out.deploy(*arguments), *words, "./deploy.sh --help", status=2)


def test_old_package(signed_out):
    old = signed_out.app / "old.zip"
    old.write_bytes(PACKAGE.read_bytes())
    os.utime(old, (0, 0))
    done = signed_out.deploy("--zip", "old.zip", "app")
    assert_stopped(done, "old.zip is older than", "make it anew with 'cargo xtask package'", status=2)


def test_no_az(signed_out):
    assert_stopped(signed_out.deploy("app", PATH=signed_out.path_without(["az"])), "az is needed", "install it")


def test_no_curl(signed_out):
    path = signed_out.path_without(["curl"]) + ":" + os.path.dirname(sys.executable)
    assert_stopped(signed_out.deploy("app", PATH=path), "curl is needed", "apt-get install curl")


def test_old_az(signed_out):
    folder = signed_out.folder / "old-az"
    folder.mkdir()
    (folder / "az").write_text("#!/bin/sh\necho 2.86.0\n")
    (folder / "az").chmod(0o755)
    done = signed_out.deploy("app", PATH=f"{folder}:{signed_out.environment['PATH']}")
    assert_stopped(done, "az is version 2.86.0", "2.87.0", "az upgrade")


def test_dry_run_shows_every_command_and_runs_none(signed_out):
    path = signed_out.path_without(["az", "curl", "cargo-not-there"])
    done = signed_out.deploy("--dry-run", "--subscription", "mine", "app", PATH=path)
    assert done.returncode == 0, done.stderr
    shown = [line for line in done.stdout.splitlines() if line.startswith("+ az ")]
    assert all(" --subscription mine " in line for line in shown)
    commands = [re.match(r"\+ az ([a-z -]+?) --", line)[1] for line in shown]
    assert "+ cargo xtask package" in done.stdout.splitlines()
    assert commands == [
        "group create",
        "storage account create",
        "monitor log-analytics workspace create",
        "resource create",
        "storage container-rm create",
        "functionapp create",
        "functionapp scale config set",
        "role assignment create",
        "functionapp config appsettings set",
        "functionapp config appsettings delete",
        "functionapp deployment source config-zip",
    ]
    assert not (signed_out.folder / "cargo.log").exists()
    done = signed_out.deploy("--dry-run", "--delete", "app", PATH=path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "+ az group delete --name rg-app --yes --output none")
    assert signed_out.azure.requests == []


def test_name_follows_from_subscription_and_folder(world):
    def name_in(done):
        assert done.returncode == 0, done.stderr
        first, *rest = done.stdout.splitlines()
        name = re.fullmatch(r"NAME is not given: it is (flexwasm-[0-9a-f]{8}), as always .*", first)[1]
        assert rest[-1] == f"There is no resource group rg-{name}: nothing to delete."
        return name

    name = name_in(world.deploy("--delete"))
    assert name_in(world.deploy("--delete")) == name
    elsewhere = world.app.rename(world.folder / "elsewhere")
    world.app = elsewhere
    assert name_in(world.deploy("--delete")) != name
    world.app = elsewhere.rename(world.folder / "app")


def test_dry_run_without_a_name_says_what_it_stands_for(signed_out):
    done = signed_out.deploy("--dry-run", PATH=signed_out.path_without(["az", "cargo"]))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("NAME is not given: flexwasm-00000000 stands for flexwasm- and eight digits")
    assert any(line.startswith("+ az group create --name rg-flexwasm-00000000 ") for line in done.stdout.splitlines())


def test_help(signed_out):
    done = signed_out.deploy("--help")
    assert (done.returncode, done.stderr) == (0, "")
    options = set(re.findall(r"^ +(--[a-z-]+) ", (ROOT / "deploy.sh").read_text().split("esac")[0], re.M))
    assert options <= set(re.findall(r"--[a-z-]+", done.stdout))


def test_no_output_holds_a_secret(world, first, second, changed, kept, deleted, broken, silent, events, events_again):
    assert {STORAGE_KEY, MASTER_KEY, INSTRUMENTATION_KEY} == set(SECRETS)
    for output in world.outputs:
        for secret in [*SECRETS, "sig=signature"]:
            assert secret not in output
