"""VMs on a hypervisor, as clients see them: `guest.py HTTPS HTTP PASSWORD DISK RADON`, a `radond` in dom0 behind two ports of this machine."""

import json
import os
import subprocess
import sys
import tempfile
import time

import XenAPI
from common import MIB, Events, expect, vbd_record, vdi_record, vm_record, wait_task
from consoles import consoles, framebuffer
from daemon import Noted, quoted, send

LIMIT = 200


def passed(name):
    print(f"VERDICT pass {name} {time.time() - STARTED:.0f} s", flush=True)


def value(result):
    return result.removeprefix("<value><string>").removesuffix("</string></value>")


def run(session, call, *params):
    """As a task, followed by events to its end; its result."""
    return value(wait_task(session, call(*params), limit=LIMIT)["result"])


def until(what, test, limit=LIMIT):
    end = time.time() + limit
    while not test():
        assert time.time() < end, f"{what}: not within {limit} s"
        time.sleep(0.5)


def ask(session, message, vm):
    """A guest can be asked as soon as its driver has said so: until then it is asked again."""
    end = time.time() + LIMIT
    while True:
        task = message(vm)
        record = wait_task(session, task, status=None, limit=LIMIT)
        if record["status"] == "success":
            return
        assert "say that it can be asked" in record["error_info"][1] and time.time() < end, record["error_info"]


def changes(session, vm, token):
    """Power states that events told since a token, in order."""
    events = Events(session)([f"vm/{vm}"], token, 0.0)["events"]
    return [e["snapshot"]["power_state"] for e in events if "snapshot" in e]


def disk_holds_data(path):
    """The guest has written 2 MiB to its disk."""
    out = subprocess.run(["/sbin/debugfs", "-R", "stat /root/data", path], capture_output=True, text=True, check=True)
    assert f"Size: {2 * MIB}" in out.stdout, out.stdout + out.stderr


def usage(session, http, vm):
    """What a VM has used, as `radon top` gets it."""
    status, content = send(int(http), "GET", f"/usage?{quoted(session_id=session.handle)}", tls=False)
    assert status == 200, content
    uuid = session.xenapi.VM.get_uuid(vm)
    return next((used for used in json.loads(content)["vms"] if used["uuid"] == uuid), {"read": 0, "written": 0})


def at_once(session, what, call, vms):
    """One message for all of these VMs at the same time, to the end of the last; its results."""
    begun = time.time()
    tasks = [call(vm) for vm in vms]
    results = [value(wait_task(session, task, limit=LIMIT)["result"]) for task in tasks]
    print(f"VERDICT pass twenty-at-once-{what} {time.time() - begun:.1f} s", flush=True)
    return results


def twenty(session, template):
    """20 VMs, each with a disk and an interface, cloned, started, snapshotted and shut down at once."""
    x = session.xenapi
    x.VM.set_PV_args(template, "")
    x.VM.set_PV_ramdisk(template, "")
    x.VM.set_PV_kernel(template, "waiting")
    x.VM.set_memory_limits(template, "0", str(16 * MIB), str(16 * MIB), str(16 * MIB))
    vms = at_once(session, "cloned", lambda n: x.Async.VM.clone(template, f"twenty-{n}"), range(20))
    for vm in vms:
        x.VM.provision(vm)
    at_once(session, "started", lambda vm: x.Async.VM.start(vm, False, False), vms)
    assert all(x.VM.get_power_state(vm) == "Running" for vm in vms)
    addresses = set(x.network.get_assigned_ips(x.VIF.get_network(x.VM.get_VIFs(vms[0])[0])).values())
    assert len(addresses) == 20, addresses
    snapshots = at_once(session, "snapshotted", lambda vm: x.Async.VM.snapshot(vm, "now"), vms)
    at_once(session, "shut-down", lambda vm: x.Async.VM.hard_shutdown(vm), vms)
    assert all(x.VM.get_power_state(vm) == "Halted" for vm in vms)
    return vms + snapshots


def main():
    https, http, password, disk, program = sys.argv[1:]
    session = Noted(f"https://127.0.0.1:{https}/", ignore_ssl=True)
    session.xenapi.login_with_password("root", password, "2.21", "test")
    x = session.xenapi
    host = x.host.get_all()[0]
    before = int(x.host.compute_free_memory(host))
    assert before > 256 * MIB
    passed("login")

    sr = x.SR.create(host, {"location": "/srv/volumes/main"}, "0", "main", "", "xfs", "user", False, {})
    size = os.path.getsize(disk)
    golden = x.VDI.create(vdi_record(sr, "golden", size))
    query = quoted(session_id=session.handle, vdi=golden, format="raw")
    with open(disk, "rb") as file:
        assert send(int(http), "PUT", f"/import_raw_vdi?{query}", file.read(), tls=False) == (200, b"done\n")
    passed("disk-imported")

    subnet = {"radon:subnet": "10.8.0.0/24", "radon:outside": "nat"}
    network = x.network.create({"name_label": "guests", "bridge": "", "other_config": subnet})
    arguments = "console=hvc0 quiet root=/dev/xvda radon.do="
    template = x.VM.create(vm_record(
        "template", PV_ramdisk="initrd", PV_args=arguments + "write,poweroff", is_a_template=True, memory_static_max=str(192 * MIB),
        memory_dynamic_max=str(192 * MIB), memory_dynamic_min=str(192 * MIB)))
    x.VBD.create(vbd_record(template, golden))
    x.VIF.create({"device": "0", "network": network, "VM": template})
    vm = run(session, x.Async.VM.clone, template, "one")
    x.VM.provision(vm)
    passed("template-cloned")

    token = Events(session)([f"vm/{vm}"], "", 0.0)["token"]
    run(session, x.Async.VM.start, vm, False, False)
    record = x.VM.get_record(vm)
    assert record["power_state"] == "Running" and int(record["domid"]) > 0 and record["resident_on"] == host
    assert "Running" in changes(session, vm, token)
    vbd, vif = record["VBDs"][0], record["VIFs"][0]
    assert x.VBD.get_currently_attached(vbd) and x.VIF.get_currently_attached(vif)
    assert x.host.get_resident_VMs(host).count(vm) == 1
    given = x.network.get_assigned_ips(network)
    assert given == {vif: "10.8.0.10"} and x.VIF.get_ipv4_addresses(vif) == ["10.8.0.10"], given
    for mode in ("disabled", "unlocked", "locked"):
        x.VIF.set_locking_mode(vif, mode)
    expect("OPERATION_NOT_ALLOWED", x.VIF.set_ipv4_allowed, vif, ["10.9.0.1"])
    assert x.VIF.get_ipv4_allowed(vif) == []
    expect("VM_BAD_POWER_STATE", x.VM.start, vm, False, False)
    expect("VDI_IN_USE", x.VDI.destroy, x.VBD.get_VDI(vbd))
    expect("OPERATION_NOT_ALLOWED", x.VBD.destroy, vbd)
    passed("started")

    assert x.VBD.get_runtime_properties(vbd) == {"radon:backend": "radon"}
    most = [0, 0]

    def off():
        used = usage(session, http, vm)
        most[:] = max(most[0], used["read"]), max(most[1], used["written"])
        return x.VM.get_power_state(vm) == "Halted"
    until("the guest powers off", off)
    # Looked at while it runs: the last of what it has written may be gone with it.
    assert most[0] >= MIB and most[1] > 0, f"bytes that radon-block has read and written for the guest: {most}"
    assert x.VM.get_domid(vm) == "-1" and not x.VBD.get_currently_attached(vbd)
    passed("guest-powers-off-by-itself")
    with tempfile.NamedTemporaryFile(suffix=".img") as image:
        query = quoted(session_id=session.handle, vdi=x.VBD.get_VDI(vbd), format="raw")
        status, content = send(int(http), "GET", f"/export_raw_vdi?{query}", tls=False)
        assert status == 200 and len(content) == size
        image.write(content)
        image.flush()
        disk_holds_data(image.name)
    passed("what-the-guest-wrote-is-in-the-volume")

    assert x.VM.get_consoles(vm) == []
    x.VM.set_PV_args(vm, "console=hvc0 quiet radon.do=shell")
    x.VM.add_to_platform(vm, "vfb", "true")
    run(session, x.Async.VM.start, vm, False, False)
    x.VM.pause(vm)
    assert x.VM.get_power_state(vm) == "Paused"
    x.VM.unpause(vm)
    assert x.VM.get_power_state(vm) == "Running"
    passed("paused-and-unpaused")
    console = consoles(session, vm, https, program, password)
    passed("consoles")
    framebuffer(session, vm, https, program, password)
    passed("framebuffer")
    extra = x.VDI.create(vdi_record(sr, "extra"))
    second = x.VBD.create(vbd_record(vm, extra, userdevice="1"))
    # The guest connects when its driver is there; plugging does not wait for that, unplugging does.
    run(session, x.Async.VBD.plug, second)
    assert x.VBD.get_currently_attached(second)
    expect("DEVICE_ALREADY_ATTACHED", x.VBD.plug, second)
    passed("disk-plugged")
    expect("VDI_IN_USE", x.VDI.set_sharable, extra, True)
    x.VDI.resize_online(extra, str(2 * int(x.VDI.get_virtual_size(extra))))
    passed("disk-grown")
    snapshot = run(session, x.Async.VM.snapshot, vm, "running")
    assert x.VM.get_snapshots(vm) == [snapshot]
    passed("snapshot-of-a-running-vm")

    ask(session, x.Async.VM.clean_shutdown, vm)
    assert x.VM.get_power_state(vm) == "Halted" and x.VM.get_domid(vm) == "-1"
    assert not x.VBD.get_currently_attached(vbd) and x.VM.get_resident_on(vm) == "OpaqueRef:NULL"
    passed("clean-shutdown")
    x.VM.set_VCPUs_max(vm, "2")
    run(session, x.Async.VM.start, vm, True, False)
    assert x.VM.get_power_state(vm) == "Paused", "it was to start paused"
    x.VM.unpause(vm)
    first = x.VM.get_domid(vm)
    x.VM.hard_reboot(vm)
    assert x.VM.get_domid(vm) != first and x.VM.get_power_state(vm) == "Running"
    assert console in x.VM.get_consoles(vm) and len(x.VM.get_consoles(vm)) == 2
    passed("hard-reboot")
    x.VM.set_VCPUs_number_live(vm, "2")
    until("two vCPUs", lambda: x.VM_metrics.get_VCPUs_number(x.VM.get_metrics(vm)) == "2")
    passed("vcpus-live")
    run(session, x.Async.VBD.unplug, second)
    assert not x.VBD.get_currently_attached(second)
    run(session, x.Async.VIF.unplug, vif)
    run(session, x.Async.VIF.plug, vif)
    assert x.VIF.get_currently_attached(vif)
    passed("devices-unplugged")
    x.VM.set_memory_dynamic_range(vm, str(128 * MIB), str(144 * MIB))
    until("the balloon", lambda: int(x.VM_metrics.get_memory_actual(x.VM.get_metrics(vm))) < 150 * MIB)
    passed("memory-live")
    # It has followed its balloon: it is up, and not one that ignores requests because it still boots.
    ask(session, x.Async.VM.suspend, vm)
    record = x.VM.get_record(vm)
    assert record["power_state"] == "Suspended" and record["domid"] == "-1" and "resume" in record["allowed_operations"]
    assert x.VBD.get_currently_attached(vbd), "a suspended guest counts on its disks"
    expect("VDI_IN_USE", x.VDI.destroy, x.VBD.get_VDI(vbd))
    expect("VM_BAD_POWER_STATE", x.VM.start, vm, False, False)
    run(session, x.Async.VM.resume, vm, True, False)
    assert x.VM.get_power_state(vm) == "Paused", "it was to be resumed paused"
    x.VM.unpause(vm)
    passed("suspended-and-resumed")
    ask(session, x.Async.VM.clean_shutdown, vm)
    run(session, x.Async.VM.start, vm, False, False)
    ask(session, x.Async.VM.clean_shutdown, vm)
    passed("clean-shutdown-while-it-boots")
    run(session, x.Async.VM.start, vm, False, False)
    x.VM.hard_shutdown(vm)
    assert x.VM.get_power_state(vm) == "Halted"
    passed("hard-shutdown")

    others = []
    media = x.VDI.create(vdi_record(sr, "media"))
    for n in range(3):
        other = x.VM.clone(template, f"many-{n}")
        x.VM.provision(other)
        x.VM.set_PV_args(other, "console=hvc0 quiet radon.do=poweroff")
        x.VBD.create(vbd_record(other, media, userdevice="1", mode="RO"))
        others.append(other)
    tasks = [x.Async.VM.start(other, False, False) for other in others]
    for task in tasks:
        wait_task(session, task, limit=LIMIT)
    until("guests that power off", lambda: all(x.VM.get_power_state(o) == "Halted" for o in others))
    passed("three-at-once-with-one-read-only-disk-power-off-by-themselves")

    rival = x.VM.clone(template, "rival")
    x.VM.provision(rival)
    for old in x.VM.get_VBDs(rival):
        x.VBD.destroy(old)
    x.VBD.create(vbd_record(rival, x.VBD.get_VDI(x.VM.get_VBDs(others[0])[0])))
    tasks = [x.Async.VM.start(one, True, False) for one in (others[0], rival)]
    ends = [wait_task(session, task, status=None, limit=LIMIT) for task in tasks]
    assert sorted(end["status"] for end in ends) == ["failure", "success"], ends
    assert [end["error_info"][0] for end in ends if end["status"] == "failure"] == ["VDI_IN_USE"], ends
    x.VM.hard_shutdown((others[0], rival)[ends[1]["status"] == "success"])
    x.VM.destroy(rival)
    passed("two-vms-never-get-one-disk")

    others += twenty(session, template)

    for other in [vm, template, snapshot, *others]:
        x.VM.destroy(other)
    for vdi in x.VDI.get_all():
        x.VDI.destroy(vdi)
    x.network.destroy(network)
    x.SR.destroy(sr)
    # The first guest's start takes some pages for good: dom0's own for back ends.
    until("memory comes back", lambda: before - int(x.host.compute_free_memory(host)) < 4 * MIB, 30)
    passed("nothing-left")
    print("xenapi: all passed", flush=True)


STARTED = time.time()
main()
