"""The real deploy.sh and the real az, in a world that ends at the loopback interface."""

import copy
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import az_server
import azure

ROOT = Path(__file__).parents[2]
TESTS = Path(__file__).parent
# Made by `cargo xtask package --for-tests`.
PACKAGE = ROOT / "target/package-test/flexwasm.zip"


def change_package(path, host_json=None, mode=None):
    """Writes the package with another pool size in its host.json, or another mode of its executable."""
    with zipfile.ZipFile(PACKAGE) as package, zipfile.ZipFile(path, "w") as changed:
        for entry in package.infolist():
            content = package.read(entry)
            if entry.filename == "host.json" and host_json:
                document = json.loads(content)
                host_json(document)
                content = json.dumps(document)
            if entry.filename == "flexwasm" and mode:
                entry.external_attr = mode << 16
            changed.writestr(entry, content)


def pack_events(path):
    """Writes a package of examples/events, whose guests are those of the demonstration: what they do does not matter here."""
    app = ROOT / "examples/events"
    with zipfile.ZipFile(PACKAGE) as package, zipfile.ZipFile(path, "w") as packed:
        executable = package.getinfo("flexwasm")
        packed.writestr(executable, package.read(executable))
        settings = sorted(app.glob("*/function.json"))
        for name in ["host.json", *(str(each.relative_to(app)) for each in settings)]:
            entry = copy.copy(package.getinfo("host.json"))
            entry.filename = name
            packed.writestr(entry, (app / name).read_text())
        for function in [each.parent.name for each in settings]:
            for guest in ["guest.wasm", "guest.cwasm"]:
                entry = copy.copy(package.getinfo("http_trigger/" + guest))
                content = package.read(entry)
                entry.filename = f"{function}/{guest}"
                packed.writestr(entry, content)


CARGO = """
echo "$@" >>{log}
case "$*" in
  "xtask package") zip=dist/flexwasm.zip; mkdir -p dist && cp {package} $zip ;;
  "xtask package --app "*) zip=$4/dist/flexwasm.zip; mkdir -p $4/dist && cp {events} $zip ;;
  "xtask package --check "*) zip=$4 ;;
  *) exit 1 ;;
esac
mkdir -p target/package && {host} check --package "$zip" && exec {host} check --json --package "$zip" >target/package/check.json"""


class World:
    """A folder with the app, the programs that deploy.sh finds, and an Azure."""

    def __init__(self, folder):
        self.folder = folder
        self.azure = azure.Azure(folder)
        self.outputs = []
        self.app = folder / "app"
        for source in ["deploy.sh", "host.json", "http_trigger/function.json", "Cargo.toml", "Cargo.lock", "host/Cargo.toml"]:
            (self.app / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, self.app / source)
        for source in ["crates", "host/src", "guest", "wit"]:
            (self.app / source).mkdir()
        assert PACKAGE.exists(), "there is no package to deploy: make it with `cargo xtask package --for-tests`"
        self.bin = folder / "bin"
        self.bin.mkdir()
        # deploy.sh's pauses cost nothing, except the one that only counts the seconds.
        self.program("sleep", 'case $1 in 15) exec /bin/sleep 15 ;; *) exec /bin/sleep 0.01 ;; esac')
        # What `cargo xtask package` does, without building anything.
        self.program("cargo", CARGO.format(log=folder / "cargo.log", package=PACKAGE, events=folder / "events.zip", host=folder / "flexwasm"))
        pack_events(folder / "events.zip")
        shutil.copytree(ROOT / "examples/events", self.app / "examples/events", ignore=shutil.ignore_patterns("*.*wasm", "flexwasm", "dist"))
        with zipfile.ZipFile(PACKAGE) as package:
            package.extract("flexwasm", folder)
        (folder / "flexwasm").chmod(0o755)
        environment = Path(sys.executable).parent
        warm = folder / "warm"
        warm.mkdir()
        socket = str(folder / "az.socket")
        (warm / "az").write_text(az_server.CALLER.format(python=sys.executable, path=socket))
        (warm / "az").chmod(0o755)
        self.environment = {
            "PATH": f"{self.bin}:{warm}:{environment}:/usr/bin:/bin",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(TESTS / "shim"),
            # What Python compiles stays out of the folders with sources.
            "PYTHONPYCACHEPREFIX": str(ROOT / "target/azure/bytecode"),
            "AZURE_CONFIG_DIR": str(folder / "config"),
            "AZURE_CORE_COLLECT_TELEMETRY": "false",
            "AZURE_CORE_INSTANCE_DISCOVERY": "false",
            "REQUESTS_CA_BUNDLE": str(self.azure.certificate),
            "CURL_CA_BUNDLE": str(self.azure.certificate),
            # Whatever is not on this machine goes to a closed port.
            "HTTP_PROXY": "http://127.0.0.1:9",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1",
        }
        server = [sys.executable, str(TESTS / "az_server.py"), socket]
        self.az_server = subprocess.Popen(server, env=self.environment, stdout=subprocess.PIPE)
        assert self.az_server.stdout.readline() == b"ready\n"

    def close(self):
        self.az_server.kill()
        self.az_server.wait()

    def program(self, name, text):
        path = self.bin / name
        path.write_text("#!/bin/sh\n" + text + "\n")
        path.chmod(0o755)

    def path_without(self, hidden):
        """A search path where these programs are not found."""
        folder = self.folder / ("without-" + "-".join(hidden))
        folder.mkdir(exist_ok=True)
        for program in [*Path("/usr/bin").iterdir(), *Path("/bin").iterdir()]:
            link = folder / program.name
            if program.name not in hidden and not link.is_symlink():
                link.symlink_to(program)
        return f"{self.bin}:{folder}"

    def az(self, *arguments):
        subprocess.run(["az", *arguments], env=self.environment, check=True, capture_output=True, text=True)

    def sign_in(self):
        cloud = self.folder / "cloud.json"
        cloud.write_text(json.dumps(self.azure.cloud()))
        self.az("cloud", "register", "--name", "Loopback", "--skip-endpoint-discovery", "--cloud-config", f"@{cloud}")
        self.az("cloud", "set", "--name", "Loopback")
        self.az("login", "--service-principal", "-u", azure.CLIENT, "-p", "any", "--tenant", azure.TENANT)

    def deploy(self, *arguments, answer="", **changes):
        """Runs deploy.sh, and returns the finished process, with what it asked Azure and what was there afterwards."""
        return self.run(["./deploy.sh", *arguments], self.app, answer, changes)

    def flexwasm_deploy(self, folder, *arguments, **changes):
        """The same with `flexwasm deploy` in a folder that is no part of the repository."""
        return self.run([str(self.folder / "flexwasm"), "deploy", *arguments], folder, "", changes)

    def run(self, command, folder, answer, changes):
        begin = len(self.azure.requests)
        done = subprocess.run(
            command, cwd=folder, env=self.environment | changes, input=answer, capture_output=True, text=True
        )
        done.requests = self.azure.requests[begin:]
        done.resources, done.settings = copy.deepcopy((self.azure.resources, self.azure.settings))
        self.outputs.append(done.stdout + done.stderr)
        return done


@pytest.fixture(scope="session")
def signed_out(tmp_path_factory):
    """Nobody is logged in: for what is refused before that matters."""
    made = World(tmp_path_factory.mktemp("signed-out"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Somebody is logged in at the loopback Azure."""
    made = World(tmp_path_factory.mktemp("world"))
    made.sign_in()
    yield made
    made.close()


@pytest.fixture(scope="session")
def first(world):
    """A first run. The role needs a while, and so does the app."""
    world.azure.publish_statuses = [403, 400]
    world.azure.app_statuses = [503, 404]
    return world.deploy("app-one")
