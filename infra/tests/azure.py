"""A small Azure on the loopback interface: sign-in, resource manager, deployment endpoint and function app in one listener.

It answers the requests that `deploy.sh` makes the real `az` send, keeps what it is sent, and records every request. It refuses what Azure is known
to refuse where a test depends on that, and nothing else: that a request is accepted here says what az sends, not that Azure
takes it. Shapes of answers were read off azure-cli 2.91's source and its recorded tests.
"""

import base64
import io
import json
import re
import ssl
import threading
import time
import urllib.parse
import uuid
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import trustme

SUBSCRIPTION = "00000000-0000-0000-0000-0000000000aa"
TENANT = "00000000-0000-0000-0000-0000000000bb"
CLIENT = "00000000-0000-0000-0000-0000000000cc"
PRINCIPAL = "00000000-0000-0000-0000-0000000000dd"
REGIONS = {"eastasia": "East Asia", "eastus2": "East US 2"}
# What must reach no output.
STORAGE_KEY = base64.b64encode(b"key of the storage account, kept secret").decode()
MASTER_KEY = "masterkeythatnobodymaysee"
INSTRUMENTATION_KEY = "00000000-0000-0000-0000-0000000000ee"
SECRETS = [STORAGE_KEY, MASTER_KEY, INSTRUMENTATION_KEY]


class Azure:
    """What is there, what was asked, and how to behave."""

    def __init__(self, folder):
        self.resources = {}
        self.settings = {}
        self.requests = []
        # Answers to come, taken from the front; empty means success.
        self.publish_statuses = []
        self.app_statuses = []
        self.host_statuses = []
        self.site_conflicts = 0
        self.deployment_status = 4
        # Functions of the published package, and how often they are not listed yet.
        self.functions = []
        self.unlisted = 0
        self.taken = set()
        self.lock = threading.RLock()

        authority = trustme.CA()
        self.certificate = folder / "authority.pem"
        authority.cert_pem.write_to_path(self.certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"azure": self}))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.host = "127.0.0.1:%d" % self.server.server_address[1]
        self.url = "https://" + self.host
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def cloud(self):
        """What `az cloud register --cloud-config` takes."""
        endpoints = dict.fromkeys(
            ["management", "activeDirectory", "microsoftGraphResourceId", "appServiceResourceId"]
            + ["logAnalyticsResourceId", "appInsightsResourceId"],
            self.url,
        )
        # These have to end in a slash.
        endpoints |= dict.fromkeys(
            ["resourceManager", "activeDirectoryResourceId", "activeDirectoryGraphResourceId"], self.url + "/"
        )
        return {"endpoints": endpoints, "suffixes": {"storageEndpoint": "core.windows.net"}}


def of_type(resources, kind):
    """The resources of a type, such as "Microsoft.Web/sites"."""
    return [resource for resource in resources.values() if resource["type"].lower() == kind.lower()]


def writes(requests):
    """Those that change something: neither reads, nor questions that are posted, nor the publishing itself."""
    asking = re.compile(r"token$|/listkeys$|/list$|checknameavailability$|^/api/publish$", re.I)
    return [r for r in requests if r["method"] not in ("GET", "HEAD") and not asking.search(r["path"])]


def find(requests, method, ending):
    """The requests with this method whose path ends so."""
    return [r for r in requests if r["method"] == method and r["path"].lower().endswith(ending.lower())]


class Refused(Exception):
    """An error of the resource manager."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.body = status, {"error": {"code": code, "message": message}}


def kind_and_name(path):
    """The type and the name of the resource that a path names."""
    if "/providers/" not in path:
        return "Microsoft.Resources/resourceGroups", path.split("/")[-1]
    namespace, *rest = path.rsplit("/providers/", 1)[1].split("/")
    return "/".join([namespace, *rest[::2]]), rest[-1]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    azure = None

    def log_message(self, *_):
        pass

    def serve(self):
        # az doubles slashes in places.
        target = urllib.parse.urlsplit(re.sub(r"^/+", "/", self.path))
        path = re.sub(r"/{2,}", "/", target.path).rstrip("/")
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(data) if data and "json" in self.headers.get("Content-Type", "") else None
        query = {key: values[-1] for key, values in urllib.parse.parse_qs(target.query).items()}
        record = {"method": self.command, "path": path, "query": query, "body": body and json.loads(data)}
        with self.azure.lock:
            self.azure.requests.append(record)
            try:
                status, answer = self.answer(path, query, body, data, record)
            except Refused as refused:
                status, answer = refused.status, refused.body
        record["status"] = status
        encoded = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(encoded)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = serve

    def answer(self, path, query, body, data, record):
        low = path.lower()
        if low.endswith("/.well-known/openid-configuration"):
            tenant = self.azure.url + "/" + path.split("/")[1]
            return 200, {
                "issuer": tenant + "/v2.0",
                "authorization_endpoint": tenant + "/oauth2/v2.0/authorize",
                "token_endpoint": tenant + "/oauth2/v2.0/token",
            }
        if low.endswith("/oauth2/v2.0/token"):
            return 200, {"token_type": "Bearer", "expires_in": 86000, "access_token": self.token()}
        if not low.startswith(("/subscriptions", "/tenants", "/providers")):
            return self.app(low, query, data, record)
        if not self.headers.get("Authorization", "").startswith("Bearer "):
            raise Refused(401, "AuthenticationFailed", "no token")
        if "api-version" not in query:
            raise Refused(400, "MissingApiVersionParameter", "no api-version")
        return self.manager(path, low, query, body)

    def token(self):
        now = int(time.time())
        claims = {"aud": self.azure.url, "iss": self.azure.url, "iat": now, "nbf": now, "exp": now + 86000}
        claims |= {"tid": TENANT, "oid": PRINCIPAL, "appid": CLIENT, "idtyp": "app", "ver": "1.0"}
        parts = [{"alg": "none", "typ": "JWT"}, claims]
        return ".".join([base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts] + ["x"])

    # The function app and its deployment endpoint.

    def app(self, low, query, data, record):
        azure = self.azure
        if low == "/api/publish":
            with zipfile.ZipFile(io.BytesIO(data)) as package:
                record["zip"] = {i.filename: (i.create_system, i.external_attr >> 16) for i in package.infolist()}
            status = azure.publish_statuses.pop(0) if azure.publish_statuses else 202
            if status == 202:
                azure.functions = [name.split("/")[0] for name in record["zip"] if name.endswith("/function.json")]
            return status, "deployment-1" if status == 202 else {"Message": "BlobUploadFailed: sig=signature&se=1"}
        if low == "/api/deployments/latest":
            return 200, {"id": "deployment-1", "status": azure.deployment_status, "progress": ""}
        if low == "/api/deployments":
            return 200, [{"start_time": "2026-01-01", "log_url": azure.url + "/api/deployments/deployment-1/log"}]
        if low == "/api/deployments/deployment-1/log":
            return 200, [{"message": "the package has no host.json"}]
        if low == "/admin/host/status":
            return (azure.host_statuses.pop(0) if azure.host_statuses else 200), {"state": "Running"}
        if low == "/api/http_trigger":
            status = azure.app_statuses.pop(0) if azure.app_statuses else 200
            return status, {"message": "Hello, %s." % query["name"]} if status == 200 else {"error": "not yet"}
        return 404, {"error": low}

    # The resource manager.

    def manager(self, path, low, query, body):
        azure, root = self.azure, "/subscriptions/" + SUBSCRIPTION
        subscription = {"id": root, "subscriptionId": SUBSCRIPTION, "tenantId": TENANT, "displayName": "loopback"}
        subscription["state"] = "Enabled"
        if low == "/tenants":
            return 200, {"value": [{"id": "/tenants/" + TENANT, "tenantId": TENANT}]}
        if low in ("/subscriptions", root):
            return 200, {"value": [subscription]} if low == "/subscriptions" else subscription
        if low == root + "/locations":
            return 200, {"value": [{"name": name, "displayName": REGIONS[name]} for name in REGIONS]}
        if low.endswith("/microsoft.web/georegions"):
            return 200, {"value": [{"name": name, "properties": {"orgDomain": ""}} for name in REGIONS.values()]}
        if low.endswith("/functionappstacks"):
            return 200, {"value": [STACK]}
        if low.endswith("/checknameavailability"):
            free = body["name"] not in azure.taken
            message = None if free else "%s is taken already." % body["name"]
            return 200, {"nameAvailable": free, "reason": None if free else "AlreadyExists", "message": message}
        if self.command == "POST":
            return self.action(low)
        if low.endswith("/config/appsettings"):
            azure.settings[low.split("/config/")[0]] = body["properties"]
            return 200, {"properties": body["properties"]}
        if low.endswith("/config/slotconfignames"):
            return 200, {"properties": {"appSettingNames": None}}
        if low.endswith("/config/web"):
            return 200, {"properties": {}}
        if low.endswith("/functions"):
            azure.unlisted -= 1
            site = path.split("/")[-2]
            return 200, {"value": [{"name": f"{site}/{name}"} for name in azure.functions if azure.unlisted < 0]}
        if low == root + "/resources":
            group = re.search(r"resourceGroup eq '([^']+)'", query["$filter"])[1]
            return 200, {"value": self.children("%s/resourcegroups/%s/providers" % (root, group), 3)}
        if self.command == "GET" and re.search(r"/(resourcegroups|sites|roleassignments|roledefinitions)$", low):
            return 200, {"value": self.children(low, 1)}
        return self.resource(path, low, body)

    def children(self, collection, levels):
        """What is so many levels below a path."""
        collection = collection.lower() + "/"
        found = [r for i, r in self.azure.resources.items() if i.startswith(collection)]
        return [r for r in found if r["id"].count("/") == collection.count("/") + levels - 1]

    def action(self, low):
        if low.endswith("/listkeys") and "/storageaccounts/" in low:
            return 200, {"keys": [{"keyName": name, "value": STORAGE_KEY} for name in ("key1", "key2")]}
        if low.endswith("/config/appsettings/list"):
            return 200, {"properties": self.azure.settings[low.split("/config/")[0]]}
        if low.endswith("/host/default/listkeys"):
            return 200, {"masterKey": MASTER_KEY, "functionKeys": {}, "systemKeys": {}}
        raise Refused(404, "NotFound", low)

    def resource(self, path, low, body):
        resources = self.azure.resources
        if self.command in ("GET", "HEAD"):
            if low not in resources:
                raise Refused(404, "ResourceNotFound", path + " was not found")
            return 200, resources[low]
        if self.command == "DELETE":
            gone = [i for i in resources if i == low or i.startswith(low + "/")]
            for each in gone:
                del resources[each]
                self.azure.settings.pop(each, None)
            return 200 if gone else 204, None
        kind, name = kind_and_name(path)
        group = "/".join(low.split("/")[:5])
        if low != group and group not in resources:
            raise Refused(404, "ResourceGroupNotFound", group + " was not found")
        before = resources.get(low, {})
        made = before | body | {"id": path, "name": name, "type": kind}
        made["properties"] = before.get("properties", {}) | {
            key: value for key, value in (body.get("properties") or {}).items() if value is not None
        }
        made["properties"]["provisioningState"] = "Succeeded"
        complete = getattr(self, kind.split("/")[-1].lower(), None)
        if complete:
            complete(low, made, body)
        resources[low] = made
        return 201 if kind.endswith("roleAssignments") else 200, made

    # What Azure adds to a resource, and what it refuses.

    def storageaccounts(self, _, made, __):
        services = ("blob", "queue", "table", "file")
        made["properties"]["primaryEndpoints"] = {s: "https://%s.%s.core.windows.net/" % (made["name"], s) for s in services}
        made["properties"]["networkAcls"] = {"defaultAction": "Allow", "bypass": "AzureServices"}

    def components(self, _, made, __):
        made["properties"]["InstrumentationKey"] = INSTRUMENTATION_KEY
        made["properties"]["ConnectionString"] = "InstrumentationKey=" + INSTRUMENTATION_KEY

    def roleassignments(self, low, made, _):
        properties = made["properties"]
        properties["scope"] = made["id"].rsplit("/providers/", 1)[0]
        for other in of_type(self.azure.resources, "Microsoft.Authorization/roleAssignments"):
            if all(other["properties"][k].lower() == properties[k].lower() for k in ("roleDefinitionId", "principalId", "scope")):
                raise Refused(409, "RoleAssignmentExists", "The role assignment already exists.")

    def sites(self, low, made, body):
        azure, properties = self.azure, made["properties"]
        if azure.site_conflicts:
            azure.site_conflicts -= 1
            raise Refused(409, "Conflict", "Website with given name %s already exists." % made["name"])
        settings = (body.get("properties", {}).get("siteConfig") or {}).get("appSettings")
        if settings is not None:
            azure.settings[low] = {setting["name"]: setting["value"] for setting in settings}
        # Settings are not echoed.
        properties.pop("siteConfig", None)
        if made.get("identity", {}).get("type", "").lower().startswith("systemassigned"):
            made["identity"] |= {"principalId": PRINCIPAL, "tenantId": TENANT}
        names = [{"name": azure.host, "hostType": kind, "sslState": "Disabled"} for kind in ("Standard", "Repository")]
        properties |= {"sku": "FlexConsumption", "state": "Running", "hostNames": [azure.host], "hostNameSslStates": names}
        properties |= {"defaultHostName": azure.host, "enabledHostNames": [azure.host]}


# The only stack that is asked for, as recorded for East Asia in azure-powershell's data for custom handlers.
STACK = {
    "name": "custom",
    "properties": {
        "majorVersions": [
            {
                "minorVersions": [
                    {
                        "value": "custom",
                        "stackSettings": {
                            "linuxRuntimeSettings": {
                                "appInsightsSettings": {"isSupported": True},
                                "gitHubActionSettings": {"isSupported": False},
                                "appSettingsDictionary": {"FUNCTIONS_WORKER_RUNTIME": "custom"},
                                "Sku": [
                                    {
                                        "skuCode": "FC1",
                                        "instanceMemoryMB": [
                                            {"size": "512", "isDefault": False},
                                            {"size": "2048", "isDefault": True},
                                            {"size": "4096", "isDefault": False},
                                        ],
                                        "maximumInstanceCount": {"defaultValue": 100},
                                        "functionAppConfigProperties": {
                                            "runtime": {"name": "custom", "version": "1.0"}
                                        },
                                    }
                                ],
                            }
                        },
                    }
                ]
            }
        ]
    },
}
