"""A radond of the test's own, and sessions to it: the SDK's (XML-RPC), and JSON-RPC over the same messages."""

import http.client
import json
import os
import signal
import ssl
import subprocess
import urllib.parse

import XenAPI

CALLED = set()


class Daemon:
    """radond on free ports, with its state in a folder."""

    def __init__(self, program, folder):
        self.program, self.folder, self.process = program, folder, None
        self.https = self.http = self.password = self.fingerprint = None

    def start(self):
        state = os.path.join(self.folder, "state")
        arguments = [self.program, "--state", state, "serve", "--https", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        arguments += ["--kernels", os.path.join(self.folder, "kernels")]
        arguments += ["--networks", os.path.join(self.folder, "networks")]
        arguments += ["--domains", os.path.join(self.folder, "domains.redb")]
        self.log = open(os.path.join(self.folder, "radond.log"), "ab")
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=self.log, text=True)
        for line in self.process.stdout:
            words = line.split()
            if words[:2] == ["https", "on"]:
                self.https = int(words[2].rsplit(":", 1)[1])
            elif words[:2] == ["http", "on"]:
                self.http = int(words[2].rsplit(":", 1)[1])
            elif words[:2] == ["certificate", "SHA-256"]:
                self.fingerprint = words[2]
            elif words == ["ready"]:
                break
        else:
            raise RuntimeError(f"radond did not start; see {self.log.name}")
        with open(os.path.join(state, "initial-password")) as file:
            self.password = file.read()

    def kill(self):
        """As a power cut would, but for the file system's own journal."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(10) == 0
        self.process.stdout.close()

    def user(self, name, role, password):
        state = os.path.join(self.folder, "state")
        command = [self.program, "--state", state, "user", "set", name, "--role", role]
        subprocess.run(command, input=password + "\n", text=True, check=True)

    def login(self, name="root", password=None, tls=True):
        """The unmodified SDK; what it calls is noted."""
        url = f"https://127.0.0.1:{self.https}/" if tls else f"http://127.0.0.1:{self.http}/"
        session = Noted(url, ignore_ssl=tls)
        session.xenapi.login_with_password(name, password or self.password, "2.21", "test")
        return session

    def json(self, version="2.0"):
        return Json(self, version)

    def request(self, method, path, body=None, headers=None):
        return send(self.https, method, path, body, headers)


def send(port, method, path, body=None, headers=None, tls=True):
    """One request: status and body of the answer."""
    if tls:
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=ssl._create_unverified_context())
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    result = response.status, response.read()
    connection.close()
    return result


class Noted(XenAPI.Session):
    """Notes the names of messages, and changes nothing."""

    def xenapi_request(self, methodname, params):
        name = methodname.removeprefix("Async.")
        CALLED.add(name if "." in name else f"session.{name}")
        return XenAPI.Session.xenapi_request(self, methodname, params)


class Json:
    """JSON-RPC 1.0 or 2.0. An error is the SDK's Failure."""

    def __init__(self, daemon, version):
        context = ssl._create_unverified_context()
        self.connection = http.client.HTTPSConnection("127.0.0.1", daemon.https, context=context)
        self.version, self.number, self.session = version, 0, None
        self.session = self.raw("session.login_with_password", ["root", daemon.password, "2.21", "json"])

    def raw(self, method, params):
        self.number += 1
        request = {"method": method, "params": params, "id": self.number}
        if self.version == "2.0":
            request["jsonrpc"] = "2.0"
        self.connection.request("POST", "/jsonrpc", json.dumps(request), {"Content-Type": "application/json"})
        response = json.loads(self.connection.getresponse().read())
        assert response["id"] == self.number
        if self.version == "2.0":
            assert response["jsonrpc"] == "2.0" and ("error" in response) != ("result" in response)
            if "error" in response:
                error = response["error"]
                raise XenAPI.Failure([error["message"], *error["data"]])
        else:
            assert (response["error"] is None) != (response["result"] is None)
            if response["error"] is not None:
                raise XenAPI.Failure(response["error"])
        return response["result"]

    def call(self, method, *params):
        CALLED.add(method)
        return self.raw(method, [self.session, *params])

    def __getattr__(self, name):
        return Class(self, name)


class Class:
    def __init__(self, session, name):
        self.session, self.name = session, name

    def __getattr__(self, name):
        return lambda *params: self.session.call(f"{self.name}.{name}", *params)


def quoted(**query):
    return urllib.parse.urlencode(query)
