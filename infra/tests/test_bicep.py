"""infra/main.bicep is Bicep, and says what deploy.sh does. Nothing here knows Azure's types."""

import re

import pytest
import tree_sitter_bicep
from tree_sitter import Language, Parser

from azure import find
from conftest import ROOT
from test_deploy import OWNER, scale

TEXT = (ROOT / "infra/main.bicep").read_text()


def parse(text):
    return Parser(Language(tree_sitter_bicep.language())).parse(text.encode()).root_node


def test_it_is_bicep():
    assert not parse(TEXT).has_error


@pytest.mark.parametrize("wrong", ["param", "resource app", "{ name: 'custom', version: '1.0' }"])
def test_a_slip_is_noticed(wrong):
    assert parse(TEXT.replace(wrong, wrong[:-1] + "[", 1)).has_error


def test_it_makes_what_deploy_sh_makes(first):
    declared = {kind.lower() for kind in re.findall(r"^resource \w+ '([^@]+)@", TEXT, re.M)}
    # The group is the deployment's scope, the service of blobs is there with every account.
    made = {resource["type"].lower() for resource in first.resources.values()} - {"microsoft.resources/resourcegroups"}
    assert declared - {"microsoft.storage/storageaccounts/blobservices"} == made
    assert OWNER in TEXT


def test_it_says_of_the_app_what_az_sends(first):
    config = find(first.requests, "PUT", "/sites/app-one")[0]["body"]["properties"]["functionAppConfig"]
    assert config["runtime"] == {"name": "custom", "version": "1.0"} and "{ name: 'custom', version: '1.0' }" in TEXT
    for key in [*config, *config["deployment"]["storage"], *scale(first)]:
        assert re.search(rf"^ +{key}: ", TEXT, re.M), key


def test_it_has_deploy_sh_s_settings(first):
    (settings,) = first.settings.values()
    for name in set(settings) - {"FUNCTIONS_WORKER_RUNTIME"}:
        assert f"{{ name: '{name}', value: " in TEXT, name


def test_it_has_deploy_sh_s_options():
    usage = re.search(r"<<END\n(.*?)\nEND", (ROOT / "deploy.sh").read_text(), re.S)[1]
    parameters = dict(re.findall(r"^param (\w+) \w+(?: = (.*))?$", TEXT, re.M))
    options = {name: re.sub(r"(?<=[a-z])([A-Z])", lambda m: "-" + m[1].lower(), name) for name in parameters}
    for name, option in options.items():
        assert name == "name" or f"  --{option} " in usage, option
    assert (parameters["location"], parameters["instanceMemory"], parameters["maxInstances"]) == ("'eastasia'", "2048", "100")
    assert (parameters["alwaysReady"], parameters["storageAuth"]) == ("0", "'identity'")
