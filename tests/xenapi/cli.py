"""The command line `radon` against the same daemon."""

import json
import os
import re
import subprocess


class Cli:
    """Runs `radon` with a configuration folder of its own."""

    def __init__(self, program, folder):
        self.program = program
        self.environment = {"PATH": os.environ["PATH"], "HOME": folder, "XDG_CONFIG_HOME": os.path.join(folder, "config")}

    def run(self, *arguments, input=None):
        return subprocess.run([self.program, *arguments], env=self.environment, input=input, capture_output=True, text=True)

    def __call__(self, *arguments, input=None):
        done = self.run(*arguments, input=input)
        assert done.returncode == 0, f"radon {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def json(self, *arguments):
        return json.loads(self("--json", *arguments))

    def fails(self, why, *arguments, input=None):
        done = self.run(*arguments, input=input)
        assert done.returncode == 1 and why in done.stderr, f"radon {' '.join(arguments)}: {done.returncode} {done.stderr}"
        return done.stderr


def xl_file(radon, folder):
    """A VM of a file that xl takes, but for the disk: a volume."""
    path = os.path.join(folder, "web.cfg")
    number = "01234567-89ab-cdef-0123-456789abcdef"
    lines = ["# made for xl", "type = 'pvh'", "name = 'from-file'", f"uuid = '{number}'", "kernel = 'vmlinuz'", "root = '/dev/xvdb'",
             "extra = 'console=hvc0'", "memory = 256", "maxmem = 512", "vcpus = 2", "disk = [ 'copy,raw,xvdb,r' ]",
             "vif = [ 'bridge=br-lan,mac=00:16:3e:01:02:03' ]", "on_crash = 'preserve'"]

    def write(*more):
        with open(path, "w") as file:
            file.write("\n".join([*lines, *more]) + "\n")

    write()
    assert radon("vm", "create", "-f", path).strip() == number
    shown = radon.json("vm", "show", "from-file")
    assert shown["PV_args"] == "root=/dev/xvdb console=hvc0" and shown["actions_after_crash"] == "preserve"
    assert (shown["memory_dynamic_max"], shown["memory_static_max"], shown["VCPUs_max"]) == (256 << 20, 512 << 20, 2)
    vbd = json.loads(radon("call", "VBD.get_record", shown["VBDs"][0]))
    assert (vbd["device"], vbd["mode"]) == ("xvdb", "RO")
    assert json.loads(radon("call", "VIF.get_MAC", shown["VIFs"][0])) == "00:16:3e:01:02:03"
    radon.fails("of this uuid already", "vm", "create", "--file", path)
    lines[3] = ""
    for more, why in [("vnc = 1", "line 14: vnc is not served"), ("colour = 'red'", "line 14: colour is no setting"),
                      ("disk = ['none,raw,xvda']", "radon volume import"), ("vif = ['bridge=none']", "there is no network")]:
        write(more)
        radon.fails(why, "vm", "create", "-f", path)
    assert [r["name_label"] for r in radon.json("vm", "list")] == ["from-file", "web"]
    assert radon.run("vm", "create", "-f", path, "name").returncode == 2
    radon("vm", "delete", "from-file")


def cli(daemon, program, sr):
    """A life of volumes and VMs, by names; what is not trusted is not talked to."""
    folder = os.path.join(daemon.folder, "cli")
    os.makedirs(folder, exist_ok=True)
    radon = Cli(program, folder)
    host = f"localhost:{daemon.https}"
    radon.fails("log in first", "vm", "list")
    unknown = radon.fails("is not known", "login", "--host", host, input=daemon.password)
    fingerprint = re.search(r"([0-9A-F]{2}:){31}[0-9A-F]{2}", unknown).group()
    assert fingerprint == daemon.fingerprint
    other = fingerprint.replace(fingerprint[:2], "00" if fingerprint[:2] != "00" else "01")
    radon.fails("is another one", "login", "--host", host, "--fingerprint", other, input=daemon.password)
    radon.fails("not this password", "login", "--host", host, "--fingerprint", fingerprint, input="wrong\n")
    radon("login", "--host", host, "--fingerprint", fingerprint, input=daemon.password + "\n")
    mode = os.stat(os.path.join(folder, "config", "radon", "login.json")).st_mode
    assert mode & 0o777 == 0o600

    assert radon.json("host", "show")["enabled"] is True
    assert [r["name_label"] for r in radon.json("sr", "list")] == ["main"]
    number = radon("volume", "create", "disk", "4").strip()
    assert radon.json("volume", "show", "disk")["uuid"] == number
    image, back = os.path.join(folder, "image"), os.path.join(folder, "back")
    data = os.urandom(1 << 20)
    with open(image, "wb") as file:
        file.write(data)
    radon("volume", "import", "disk", image)
    radon("volume", "export", number, back)
    with open(back, "rb") as file:
        assert file.read() == data + bytes(3 << 20)
    radon.fails("INVALID_VALUE", "volume", "export", "disk", back, "--format", "none")
    radon("volume", "snapshot", "disk", "before")
    radon("volume", "clone", "before", "copy")
    radon("volume", "resize", "copy", "8")
    assert "8 MiB" in radon("volume", "list") and "snapshot" in radon("volume", "list")
    radon.fails("radon:range", "network", "create", "bad", "--subnet", "10.8.0.0/24", "--range", "10.8.0.10")
    radon("network", "create", "nat", "--subnet", "10.8.0.0/24", "--outside", "nat", "--range", "10.8.0.10-10.8.0.20")
    assert "10.8.0.0/24" in radon("network", "list")
    radon("network", "delete", "nat")
    radon("network", "create", "lan", "--bridge", "br-lan")
    radon("vm", "create", "web", "--kernel", "vmlinuz", "--memory", "128", "--volume", "disk", "--network", "lan")
    xl_file(radon, folder)
    radon.fails("there is no volume nothing", "vm", "create", "bad", "--kernel", "vmlinuz", "--volume", "nothing")
    assert [r["name_label"] for r in radon.json("vm", "list")] == ["web"]
    assert "dom0" in radon.fails("INTERNAL_ERROR", "vm", "start", "web")
    radon.fails("VM_BAD_POWER_STATE", "vm", "stop", "web")
    radon("vm", "memory", "web", "192")
    radon("vm", "vcpus", "web", "3")
    shown = radon.json("vm", "show", "web")
    assert (shown["memory_dynamic_max"], shown["VCPUs_max"], len(shown["VIFs"])) == (192 << 20, 3, 1)
    radon("snapshot", "create", "web", "monday")
    assert "web" in radon("snapshot", "list")
    radon("snapshot", "revert", "monday")
    keys = os.path.join(folder, "keys")
    with open(keys, "w") as file:
        file.write("ssh-ed25519 AAAA test\n")
    radon("vm", "clone", "web", "web-2", "--public-keys", keys)
    assert radon.json("vm", "show", "web-2")["other_config"]["radon:public-keys"].startswith("ssh-ed25519")
    radon("vm", "connect", "web-2", "lan", "--address", "10.9.0.2", "--locking-mode", "locked")
    radon.fails("there is no VM nothing", "vm", "show", "nothing")
    radon("vm", "attach", "web-2", "copy")
    assert json.loads(radon("call", "VM.get_by_name_label", "web-2"))[0].startswith("OpaqueRef:")
    assert "failure" in radon("task", "list")
    for name in ("web", "web-2"):
        radon("vm", "delete", name, "--volumes")
    radon("snapshot", "delete", "monday")
    radon("volume", "delete", "before")
    radon("network", "delete", "lan")
    assert radon.json("volume", "list") == [] and radon.json("vm", "list") == []
    password = os.path.join(folder, "password")
    with open(password, "w") as file:
        file.write(daemon.password)
    assert "main" in radon("--host", host, "--fingerprint", fingerprint, "--password-file", password, "sr", "list")
    assert radon.run("vm").returncode == 2
