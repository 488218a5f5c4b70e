"""A running guest's console from outside of the machine: its record, a WebSocket, XenAPI's CONNECT, and `radon console` on a terminal."""

import base64
import hashlib
import json
import os
import pty
import select
import socket
import ssl
import subprocess
import tempfile
import time

from websockets.sync.client import connect

LIMIT = 120


def insecure():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def reads(receive, wanted):
    """What comes until it holds the words."""
    seen, end = b"", time.time() + LIMIT
    while wanted not in seen:
        assert time.time() < end, f"no {wanted} in {seen[-300:]}"
        piece = receive()
        assert piece, f"the end, before {wanted}: {seen[-300:]}"
        seen += piece
    return seen


def websocket(https, path):
    with connect(f"wss://127.0.0.1:{https}{path}", ssl=insecure(), max_size=None) as one:
        receive = lambda: one.recv(LIMIT)
        reads(receive, b"GUEST userspace")
        one.send(b"echo an$((40+2))swer\n")
        reads(receive, b"\nan42swer")
        # A second viewer sees what was, and both see what comes.
        with connect(f"wss://127.0.0.1:{https}{path}", ssl=insecure()) as two:
            reads(lambda: two.recv(LIMIT), b"\nan42swer")
            two.send("echo se$((1+1))cond\n")
            reads(lambda: two.recv(LIMIT), b"\nse2cond")
        reads(receive, b"\nse2cond")


def tunnel(https, path):
    """As XenAPI's own clients do it."""
    with insecure().wrap_socket(socket.create_connection(("127.0.0.1", int(https)), LIMIT)) as stream:
        stream.sendall(f"CONNECT {path} HTTP/1.0\r\n\r\n".encode())
        head, _, _ = reads(lambda: stream.recv(4096), b"\nse2cond").partition(b"\r\n\r\n")
        assert head.split()[1] == b"200", head
        stream.sendall(b"echo tun$((3+4))nel\n")
        reads(lambda: stream.recv(4096), b"\ntun7nel")


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command, environment):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True)
        os.close(slave)

    def receive(self):
        ready, _, _ = select.select([self.master], [], [], LIMIT)
        assert ready, "nothing comes"
        return os.read(self.master, 4096)

    def sees(self, wanted):
        return reads(self.receive, wanted)

    def types(self, keys):
        os.write(self.master, keys)

    def leaves(self):
        self.types(b"\x1d")
        assert self.process.wait(LIMIT) == 0
        os.close(self.master)


def command_line(https, program, password, name):
    certificate = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", int(https))))
    with tempfile.NamedTemporaryFile("w") as secret:
        secret.write(password)
        secret.flush()
        options = ["--host", f"127.0.0.1:{https}", "--fingerprint", hashlib.sha256(certificate).hexdigest(), "--password-file", secret.name]
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
        one = Terminal([program, *options, "console", name], environment)
        one.sees(b"\ntun7nel")
        one.types(b"echo key$((5+5))board\r")
        one.sees(b"\nkey10board")
        # Ctrl-C is the guest's. Not before the shell has left its line editor, to which it is a key like others.
        one.types(b"echo sl$((7+7))eep; sleep 1000\r")
        one.sees(b"\nsl14eep")
        one.types(b"\x03")
        one.types(b"echo after$((6+6))\r")
        one.sees(b"\nafter12")
        two = Terminal([program, *options, "console", name], environment)
        two.sees(b"\nafter12")
        two.leaves()
        one.leaves()
        said = subprocess.run([program, *options, "console", "--history", name], env=environment, capture_output=True, timeout=LIMIT, check=True)
        assert b"GUEST userspace" in said.stdout and b"\nafter12" in said.stdout, said.stdout[-300:]
        said = subprocess.run([program, *options, "--json", "top", "--interval", "1"], env=environment, capture_output=True, timeout=LIMIT, check=True)
        usage = json.loads(said.stdout)
        guest = next(v for v in usage["vms"] if v["name"] == name)
        assert guest["memory"] > 100 << 20 and guest["vcpus"] == 1 and usage["host"]["memory"] > usage["host"]["memory_free"] > 0, usage
        assert 0 < usage["host"]["cpu_percent"] <= 100 * usage["host"]["cpus"] * 1.2, usage
        top = Terminal([program, *options, "top", "--interval", "1"], environment)
        top.sees(name.encode())
        top.types(b"m")
        top.sees(b"\x1b[H")
        top.types(b"q")
        assert top.process.wait(LIMIT) == 0
        refused = subprocess.run([program, *options, "console", "nobody"], env=environment, capture_output=True, text=True)
        assert refused.returncode == 1 and "there is no VM nobody" in refused.stderr


# Three colours from the top down, as a guest's framebuffer has them: blue first.
COLOURS = (255, 0, 0), (0, 255, 0), (0, 0, 255)
PAINT = r"""awk 'BEGIN {for (i = 0; i < 160000; i++) printf "bgrx"}' > /tmp/p
(tr bgrx '\000\000\377\000' < /tmp/p; tr bgrx '\000\377\000\000' < /tmp/p; tr bgrx '\377\000\000\000' < /tmp/p) > /dev/fb0; echo pain$((1))ted
"""


def framebuffer(session, vm, https, program, password):
    """Painted by the guest's own driver; seen by vncdotool, through `radon console --vnc` and by a WebSocket's first words."""
    # Only here: its reactor is started with it.
    from PIL import Image
    from vncdotool import api, client, rfb

    x = session.xenapi
    (picture,) = (c for c in x.VM.get_consoles(vm) if x.console.get_protocol(c) == "rfb")
    record = x.console.get_record(picture)
    assert record["VM"] == vm and record["location"].endswith(f"/console?uuid={record['uuid']}"), record
    path = f"/console?uuid={record['uuid']}&session_id={session.handle}"
    with connect(f"wss://127.0.0.1:{https}{path}", ssl=insecure()) as one:
        reads(lambda: one.recv(LIMIT), b"RFB 003.008\n")
    text = f"/console?vm={x.VM.get_uuid(vm)}&session_id={session.handle}"
    with connect(f"wss://127.0.0.1:{https}{text}", ssl=insecure(), max_size=None) as one:
        one.send(PAINT)
        reads(lambda: one.recv(LIMIT), b"\npain1ted")
    certificate = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", int(https))))
    with tempfile.TemporaryDirectory() as folder:
        secret, shot = f"{folder}/password", f"{folder}/shot.png"
        with open(secret, "w") as file:
            file.write(password)
        options = ["--host", f"127.0.0.1:{https}", "--fingerprint", hashlib.sha256(certificate).hexdigest(), "--password-file", secret]
        command = [program, *options, "console", "--vnc", "--listen", "127.0.0.1:0", x.VM.get_name_label(vm)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
            try:
                called = forward.stdout.readline().split()
                assert called[0] == "vncviewer", called
                for encoding in (rfb.Encoding.RAW, rfb.Encoding.ZRLE):
                    client.VNCDoToolClient.encoding = encoding
                    with api.connect(called[1], timeout=LIMIT) as viewer:
                        viewer.captureScreen(shot)
                    with Image.open(shot) as image:
                        assert image.size == (800, 600), image.size
                        seen = [image.convert("RGB").getpixel((700, y)) for y in (150, 350, 550)]
                        assert tuple(seen) == COLOURS, f"{encoding}: {seen}"
            finally:
                forward.terminate()
    api.shutdown()


def consoles(session, vm, https, program, password):
    x = session.xenapi
    (console,) = (c for c in x.VM.get_consoles(vm) if x.console.get_protocol(c) == "vt100")
    record = x.console.get_record(console)
    assert record["protocol"] == "vt100" and record["VM"] == vm
    assert record["location"].endswith(f"/console?uuid={record['uuid']}"), record
    path = f"/console?uuid={record['uuid']}&session_id={session.handle}"
    websocket(https, path)
    tunnel(https, path)
    command_line(https, program, password, x.VM.get_name_label(vm))
    # Basic authentication, as browsers have it.
    login = base64.b64encode(f"root:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {login}"}
    with connect(f"wss://127.0.0.1:{https}/console?vm={x.VM.get_uuid(vm)}", ssl=insecure(), additional_headers=headers) as one:
        reads(lambda: one.recv(LIMIT), b"\nafter12")
    return console
