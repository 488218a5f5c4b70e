"""A case for each part of the API."""

import base64
import http.client
import os
import ssl
import subprocess
import tempfile
import threading
import xmlrpc.client

import XenAPI
from common import MIB, Events, expect, vbd_record, vdi_record, vm_record, wait_task
from daemon import CALLED, quoted


def sessions(daemon):
    """Logging in and out, and what is refused."""
    try:
        daemon.login("root", "wrong")
        raise AssertionError("a wrong password is taken")
    except XenAPI.Failure as failure:
        assert failure.details == ["SESSION_AUTHENTICATION_FAILED"]
    plain = daemon.login(tls=False)
    assert plain.API_version == "2.21"
    x, me = plain.xenapi, plain.handle
    record = x.session.get_record(me)
    assert record["is_local_superuser"] is True and record["auth_user_name"] == "root" and record["originator"] == "test"
    assert isinstance(record["last_active"], xmlrpc.client.DateTime)
    assert x.session.get_by_uuid(record["uuid"]) != record["uuid"]
    assert x.session.get_all_subject_identifiers() == ["root"]
    x.session.add_to_other_config(me, "k", "v")
    assert x.session.get_other_config(me) == {"k": "v"}
    x.session.remove_from_other_config(me, "k")
    x.session.set_other_config(me, {})
    unknown = expect("MESSAGE_METHOD_UNKNOWN", x.VM.no_such_message, "a")
    assert unknown == ["VM.no_such_message"], unknown
    expect("MESSAGE_METHOD_UNKNOWN", x.NoSuchClass.get_all)
    expect("MESSAGE_METHOD_UNKNOWN", x.Async.VM.get_all)
    counts = expect("MESSAGE_PARAMETER_COUNT_MISMATCH", x.VM.start, "OpaqueRef:x")
    assert counts == ["VM.start", "4", "2"], counts
    expect("FIELD_TYPE_ERROR", x.VM.start, "OpaqueRef:x", "yes", False)
    expect("HANDLE_INVALID", x.VM.start, "OpaqueRef:x", False, False)
    expect("UUID_INVALID", x.VM.get_by_uuid, "no-uuid")
    CALLED.add("session.logout")
    reference = plain.handle
    x.session.logout()
    result = xmlrpc.client.ServerProxy(f"http://127.0.0.1:{daemon.http}/RPC2").VM.get_all(reference)
    assert result == {"Status": "Failure", "ErrorDescription": ["SESSION_INVALID", reference]}, result
    for body in [b"", b"<methodCall>", b"\xff", b"<?xml version='1.0'?><a/>"]:
        assert daemon.request("POST", "/RPC2", body)[0] == 500
    for body in [b"", b"[]", b'{"method":"VM.get_all","id":1}']:
        assert daemon.request("POST", "/jsonrpc", body)[0] == 500
    assert daemon.request("GET", "/RPC2")[0] == 405 and daemon.request("GET", "/no")[0] == 404
    try:
        assert daemon.request("POST", "/RPC2", b" " * (5 << 20))[0] == 413
    except OSError:
        pass  # The answer came while it was sent; the connection was closed then.


def roles(daemon):
    """A user may do what the role includes, and nothing else; sees the same."""
    daemon.user("eve", "read-only", "secret")
    eve = daemon.login("eve", "secret")
    assert len(eve.xenapi.VM.get_all()) == 1
    denied = expect("RBAC_PERMISSION_DENIED", eve.xenapi.VM.create, vm_record("x"))
    assert denied[0] == "vm.create", denied
    expect("RBAC_PERMISSION_DENIED", getattr(eve.xenapi, "Async").VM.create, vm_record("x"))
    eve.xenapi.session.change_password("secret", "other")
    daemon.login("eve", "other")
    root = daemon.login()
    x = root.xenapi
    operator = x.role.get_by_name_label("vm-operator")[0]
    names = x.role.get_permissions_name_label(operator)
    assert "vm.start" in names and "vm.create" not in names
    assert len(x.role.get_permissions(operator)) == 2
    assert len(x.role.get_by_permission_name_label("VM.start")) == 5
    subject = [s for s in x.subject.get_all() if x.subject.get_subject_identifier(s) == "root"][0]
    assert "vm.create" in x.subject.get_permissions_name_label(subject)
    x.session.logout_subject_identifier("eve")
    try:
        eve.last_login_method = None
        eve.xenapi.VM.get_all()
        raise AssertionError("a session that was ended works")
    except xmlrpc.client.Fault:
        pass


def storage(daemon, first, second):
    """The life of a repository and its volumes; over JSON-RPC 2.0, too."""
    root = daemon.login()
    x, j = root.xenapi, daemon.json()
    host = x.host.get_all()[0]
    assert x.SR.get_supported_types() == ["xfs"]
    expect("SR_UNKNOWN_DRIVER", x.SR.create, host, {}, "0", "a", "", "lvm", "user", False, {})
    expect("INVALID_VALUE", x.SR.create, host, {"location": "a/../b"}, "0", "a", "", "xfs", "user", False, {})
    expect("SR_BACKEND_FAILURE", x.SR.create, host, {"location": "/proc/x"}, "0", "a", "", "xfs", "user", False, {})
    assert x.SR.get_all() == []
    sr = x.SR.create(host, {"location": first}, "0", "main", "", "xfs", "user", False, {})
    task = x.Async.SR.create(host, {"location": second}, "0", "second", "", "xfs", "user", False)
    other = wait_task(root, task)["result"]
    other = other.removeprefix("<value><string>").removesuffix("</string></value>")
    assert x.SR.get_name_label(other) == "second"
    record = j.SR.get_record(sr)
    assert isinstance(record["physical_size"], int) and record["physical_size"] > 100 * MIB
    pool = x.pool.get_all()[0]
    x.pool.set_default_SR(pool, sr)

    vdi = x.VDI.create(vdi_record(sr, "disk"))
    assert x.VDI.get_virtual_size(vdi) == str(8 * MIB) and j.VDI.get_virtual_size(vdi) == 8 * MIB
    expect("INVALID_VALUE", x.VDI.create, vdi_record(sr, "big", 65 << 40))
    expect("HANDLE_INVALID", x.VDI.create, vdi_record("OpaqueRef:none", "x"))
    data = os.urandom(MIB) + bytes(5 * MIB) + os.urandom(MIB)
    query = quoted(session_id=root.handle, vdi=x.VDI.get_uuid(vdi), format="raw")
    assert daemon.request("PUT", f"/import_raw_vdi?{query}", data) == (200, b"done\n")
    status, image = daemon.request("GET", f"/export_raw_vdi?{query}")
    assert status == 200 and image == data + bytes(MIB)
    task = x.task.create("export", "for the test")
    auth = base64.b64encode(f"root:{daemon.password}".encode()).decode()
    query = quoted(vdi=vdi, format="vhd")
    status, vhd = daemon.request("GET", f"/export_raw_vdi?{query}", None, {"Authorization": f"Basic {auth}"})
    assert status == 200 and vhd[:8] == b"conectix" and len(vhd) < 7 * MIB
    query = quoted(session_id=root.handle, vdi=vdi, format="qcow2")
    status, qcow2 = daemon.request("GET", f"/export_raw_vdi?{query}")
    assert status == 200 and qcow2[:4] == b"QFI\xfb" and qemu_reads(qcow2, "qcow2") == image
    assert qemu_reads(vhd, "vpc")[:len(data)] == data
    cancelled_import(daemon, root, vdi, image)
    copy = x.VDI.create(vdi_record(sr, "from VHD", 10 * MIB))
    query = quoted(session_id=root.handle, vdi=copy, format="vhd", task_id=task)
    assert daemon.request("PUT", f"/import_raw_vdi?{query}", vhd)[0] == 200
    assert x.task.get_status(task) == "success" and x.task.get_progress(task) == 1.0
    query = quoted(session_id=root.handle, vdi=copy)
    assert daemon.request("GET", f"/export_raw_vdi?{query}")[1] == data + bytes(3 * MIB)
    assert daemon.request("PUT", f"/import_raw_vdi?{query}", bytes(11 * MIB))[0] == 500
    assert daemon.request("GET", f"/export_raw_vdi?{query}")[1] == data + bytes(3 * MIB), "as it was"
    assert daemon.request("GET", f"/export_raw_vdi?{quoted(session_id='no', vdi=vdi)}")[0] == 401
    assert daemon.request("GET", f"/export_raw_vdi?{quoted(session_id=root.handle, vdi='no')}")[0] == 404

    snapshot = x.VDI.snapshot(vdi, {})
    assert x.VDI.get_is_a_snapshot(snapshot) and x.VDI.get_snapshot_of(snapshot) == vdi
    assert x.VDI.get_snapshots(vdi) == [snapshot]
    expect("OPERATION_NOT_ALLOWED", x.VDI.set_read_only, snapshot, False)
    query = quoted(session_id=root.handle, vdi=vdi)
    changed = data[:MIB] + os.urandom(64 << 10) + data[MIB + (64 << 10):]
    assert daemon.request("PUT", f"/import_raw_vdi?{query}", changed)[0] == 200
    later = x.VDI.snapshot(vdi)
    bits = base64.b64decode(x.VDI.list_changed_blocks(snapshot, later))
    assert len(bits) == 16 and bits[2] & 0x80, "block 16 has changed"
    clone = j.VDI.clone(snapshot)
    assert daemon.request("GET", f"/export_raw_vdi?{quoted(session_id=root.handle, vdi=clone)}")[1] == data + bytes(MIB)
    far = wait_task(root, x.Async.VDI.copy(clone, other))["result"].removeprefix("<value><string>")
    far = far.removesuffix("</string></value>")
    assert x.VDI.get_SR(far) == other
    assert daemon.request("GET", f"/export_raw_vdi?{quoted(session_id=root.handle, vdi=far)}")[1] == data + bytes(MIB)
    x.VDI.copy(clone)
    x.VDI.resize(clone, str(16 * MIB))
    expect("INVALID_VALUE", x.VDI.resize, clone, str(MIB))
    expect("VDI_READONLY", x.VDI.resize, snapshot, str(32 * MIB))
    x.VDI.resize_online(clone, str(24 * MIB))
    assert x.VDI.get_virtual_size(clone) == str(24 * MIB)
    x.VDI.update(clone)
    for name, value in [("name_label", "a <b>"), ("name_description", "d"), ("sharable", True), ("read_only", False)]:
        getattr(x.VDI, f"set_{name}")(clone, value)
        assert getattr(x.VDI, f"get_{name}")(clone) == value
    assert x.VDI.get_by_name_label("a <b>") == [clone]
    count = len(x.SR.get_VDIs(sr))
    x.VDI.forget(clone)
    assert len(x.SR.get_VDIs(sr)) == count - 1
    x.SR.scan(sr)
    assert len(x.SR.get_VDIs(sr)) == count and x.VDI.get_by_name_label("a <b>") != [clone]
    x.SR.update(sr)
    assert x.SR.get_virtual_allocation(sr) == str(sum(int(r["virtual_size"]) for r in x.VDI.get_all_records().values() if r["SR"] == sr))
    x.SR.set_name_label(sr, "main")
    x.SR.set_name_description(sr, "the first")

    expect("SR_NOT_EMPTY", x.SR.destroy, sr)
    expect("SR_HAS_PBD", x.SR.forget, other)
    pbd = x.SR.get_PBDs(other)[0]
    uuid = x.SR.get_uuid(other)
    x.PBD.unplug(pbd)
    expect("SR_NOT_ATTACHED", x.VDI.create, vdi_record(other, "x"))
    x.PBD.destroy(pbd)
    x.SR.forget(other)
    other = x.SR.introduce(uuid, "again", "", "xfs", "user", False, {})
    pbd = x.PBD.create({"host": host, "SR": other, "device_config": {"location": second}, "other_config": {}})
    x.PBD.plug(pbd)
    assert x.PBD.get_currently_attached(pbd) and len(x.SR.get_VDIs(other)) == 1
    for vdi in x.VDI.get_all():
        x.VDI.destroy(vdi)
    expect("HANDLE_INVALID", x.VDI.get_record, vdi)
    x.SR.scan(sr)
    assert x.VDI.get_all() == []
    x.SR.destroy(other)
    assert os.listdir(second) == [], "a removed repository leaves its files"
    assert os.listdir(os.path.join(first, "volumes")) == []
    return sr


def qemu_reads(image, kind):
    """What `qemu-img` makes of an image."""
    with tempfile.TemporaryDirectory() as folder:
        source, raw = os.path.join(folder, "image"), os.path.join(folder, "raw")
        with open(source, "wb") as file:
            file.write(image)
        subprocess.run(["qemu-img", "convert", "-f", kind, "-O", "raw", source, raw], check=True)
        with open(raw, "rb") as file:
            return file.read()


def cancelled_import(daemon, root, vdi, image):
    """Somebody cancels an import's task when half of it has come: it ends, and the volume is what it was."""
    x = root.xenapi
    task = x.task.create("import", "to be cancelled")
    query = quoted(session_id=root.handle, vdi=vdi, task_id=task)
    connection = http.client.HTTPSConnection("127.0.0.1", daemon.https, context=ssl._create_unverified_context())
    connection.putrequest("PUT", f"/import_raw_vdi?{query}")
    connection.putheader("Content-Length", str(len(image)))
    connection.endheaders()
    connection.send(bytes(len(image) // 2))
    while x.task.get_progress(task) == 0.0:
        pass
    expect("OTHER_OPERATION_IN_PROGRESS", x.VDI.destroy, vdi)
    x.task.cancel(task)
    try:
        connection.send(bytes(len(image) - len(image) // 2))
    except OSError:
        pass  # It has answered already, and reads no more.
    assert connection.getresponse().status == 500
    connection.close()
    assert wait_task(root, task, "cancelled")["error_info"][0] == "TASK_CANCELLED"
    query = quoted(session_id=root.handle, vdi=vdi)
    assert daemon.request("GET", f"/export_raw_vdi?{query}")[1] == image


def networks(daemon):
    x = daemon.login().xenapi
    before = len(x.network.get_all())
    record = {"name_label": "n", "name_description": "", "MTU": "1500", "other_config": {}, "bridge": "xenbr7", "managed": False, "tags": []}
    managed = x.network.create({**record, "bridge": "", "managed": True})
    bridge = x.network.get_bridge(managed)
    links = lambda: subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert f" {bridge}: " in links()
    addresses = lambda: subprocess.run(["ip", "-o", "addr"], capture_output=True, text=True, check=True).stdout
    assert "radon:subnet" in expect("VALUE_NOT_SUPPORTED", x.network.add_to_other_config, managed, "radon:subnet", "10.7.0.1/24")[0]
    assert "10.7.0.1/24" not in addresses()
    x.network.add_to_other_config(managed, "radon:subnet", "10.7.0.0/24")
    assert f"{bridge}    inet 10.7.0.1/24" in addresses()
    wrong = {**record, "bridge": "", "managed": True, "other_config": {"radon:subnet": "10.7.0.0/16"}}
    assert "overlaps" in expect("OPERATION_NOT_ALLOWED", x.network.create, wrong)[0]
    expect("VALUE_NOT_SUPPORTED", x.network.create, {**wrong, "other_config": {"radon:vlan": "7"}})
    x.network.remove_from_other_config(managed, "radon:subnet")
    assert "10.7.0.1/24" not in addresses()
    x.network.set_default_locking_mode(managed, "disabled")
    x.network.destroy(managed)
    assert f" {bridge}: " not in links()
    network = x.network.create(record)
    assert x.network.get_bridge(network) == "xenbr7" and x.network.get_MTU(network) == "1500"
    expect("BRIDGE_NAME_EXISTS", x.network.create, record)
    expect("INVALID_VALUE", x.network.create, {**record, "bridge": "a/b"})
    expect("INVALID_VALUE", x.network.set_MTU, network, "1")
    x.network.set_MTU(network, "9000")
    vm = x.VM.create(vm_record("net"))
    vif = {
        "device": "0", "network": network, "VM": vm, "MAC": "", "MTU": "1500", "other_config": {}, "qos_algorithm_type": "",
        "qos_algorithm_params": {},
    }
    made = x.VIF.create(vif)
    assert x.VIF.get_MAC_autogenerated(made) and len(x.VIF.get_MAC(made)) == 17
    expect("DEVICE_ALREADY_EXISTS", x.VIF.create, vif)
    expect("MAC_INVALID", x.VIF.create, {**vif, "device": "1", "MAC": "x"})
    expect("INVALID_DEVICE", x.VIF.create, {**vif, "device": "9"})
    daemon.user("admin", "vm-admin", "secret")
    admin = daemon.login("admin", "secret").xenapi
    for field, value in (("locking_mode", "unlocked"), ("ipv4_allowed", ["10.7.0.9"]), ("ipv6_allowed", ["fd00::9"])):
        denied = expect("RBAC_PERMISSION_DENIED", admin.VIF.create, {**vif, "device": "1", field: value})
        assert denied[0] == f"vif.set_{field}", denied
    admin.VIF.destroy(admin.VIF.create({**vif, "device": "1", "locking_mode": "network_default"}))
    x.VIF.set_locking_mode(made, "locked")
    x.VIF.set_ipv4_allowed(made, ["10.7.0.20"])
    x.VIF.add_ipv4_allowed(made, "10.7.0.21")
    x.VIF.remove_ipv4_allowed(made, "10.7.0.20")
    assert x.VIF.get_ipv4_allowed(made) == ["10.7.0.21"]
    expect("INVALID_VALUE", x.VIF.add_ipv4_allowed, made, "10.7.0")
    expect("INVALID_VALUE", x.VIF.set_ipv6_allowed, made, ["10.7.0.20"])
    x.VIF.set_ipv6_allowed(made, ["fd00::1"])
    x.VIF.add_ipv6_allowed(made, "fd00::2")
    x.VIF.remove_ipv6_allowed(made, "fd00::2")
    expect("VALUE_NOT_SUPPORTED", x.VIF.set_qos_algorithm_type, made, "magic")
    x.VIF.set_qos_algorithm_type(made, "ratelimit")
    expect("INVALID_VALUE", x.VIF.set_qos_algorithm_params, made, {"kbps": "fast"})
    expect("VALUE_NOT_SUPPORTED", x.VIF.set_qos_algorithm_params, made, {"kbps": "1"})
    x.VIF.set_qos_algorithm_params(made, {"kbps": "1000"})
    assert x.network.get_VIFs(network) == [made] and x.VM.get_VIFs(vm) == [made]
    assert x.VM.get_allowed_VIF_devices(vm) == ["1", "2", "3", "4", "5", "6"]
    for message in (x.VIF.plug, x.VIF.unplug, x.VIF.unplug_force):
        expect("VM_BAD_POWER_STATE", message, made)
    expect("NETWORK_CONTAINS_VIF", x.network.destroy, network)
    x.VIF.destroy(made)
    x.network.destroy(network)
    x.VM.destroy(vm)
    assert len(x.network.get_all()) == before


def vms(daemon, sr):
    """Everything about VMs that needs no hypervisor; what needs one says that there is none."""
    root = daemon.login()
    x = root.xenapi
    expect("MEMORY_CONSTRAINT_VIOLATION", x.VM.create, vm_record("x", memory_static_max="1"))
    expect("INVALID_VALUE", x.VM.create, vm_record("x", VCPUs_max="0"))
    expect("VALUE_NOT_SUPPORTED", x.VM.create, vm_record("x", domain_type="hvm"))
    expect("FIELD_TYPE_ERROR", x.VM.create, vm_record("x", tags="one"))
    vm = x.VM.create(vm_record("one"))
    record = x.VM.get_record(vm)
    assert record["power_state"] == "Halted" and record["domid"] == "-1" and record["other_config"] == {"key": "a & <b>"}
    assert "start" in record["allowed_operations"] and record["current_operations"] == {}
    vdi = x.VDI.create(vdi_record(sr, "root"))
    vbd = x.VBD.create(vbd_record(vm, vdi, userdevice="autodetect"))
    assert x.VBD.get_device(vbd) == "xvda" and x.VBD.get_userdevice(vbd) == "0"
    expect("DEVICE_ALREADY_EXISTS", x.VBD.create, vbd_record(vm, vdi))
    expect("INVALID_DEVICE", x.VBD.create, vbd_record(vm, vdi, userdevice="16"))
    expect("VALUE_NOT_SUPPORTED", x.VBD.create, vbd_record(vm, vdi, type="CD", userdevice="3"))
    x.VBD.set_userdevice(vbd, "2")
    assert x.VBD.get_device(vbd) == "xvdc" and "2" not in x.VM.get_allowed_VBD_devices(vm)
    x.VBD.set_mode(vbd, "RO")
    x.VBD.set_mode(vbd, "RW")
    x.VBD.assert_attachable(vbd)
    for message in (x.VBD.plug, x.VBD.unplug, x.VBD.unplug_force):
        expect("VM_BAD_POWER_STATE", message, vbd)

    expect("VALUE_NOT_SUPPORTED", x.VM.start, vm, False, False)
    with open(os.path.join(daemon.folder, "kernels", "vmlinuz"), "wb") as kernel:
        kernel.write(b"no kernel")
    why = expect("INTERNAL_ERROR", x.VM.start, vm, False, False)[0]
    assert "dom0" in why, why
    expect("INTERNAL_ERROR", x.VM.start_on, vm, x.host.get_all()[0], True, False)
    failed = wait_task(root, x.Async.VM.start(vm, False, False), "failure")
    assert failed["error_info"][0] == "INTERNAL_ERROR" and failed["name_label"] == "Async.VM.start"
    x.VM.set_PV_kernel(vm, "../state/users")
    assert "must be a file in" in expect("VALUE_NOT_SUPPORTED", x.VM.start, vm, False, False)[2]
    expect("VALUE_NOT_SUPPORTED", x.VM.assert_can_boot_here, vm, x.host.get_all()[0])
    x.VM.set_PV_kernel(vm, "vmlinuz")
    assert x.VM.get_power_state(vm) == "Halted" and x.VM.get_current_operations(vm) == {}
    for name in ("pause", "clean_shutdown", "shutdown", "hard_shutdown", "clean_reboot", "hard_reboot", "unpause", "suspend"):
        state = expect("VM_BAD_POWER_STATE", getattr(x.VM, name), vm)
        assert state[0] == vm and state[2] == "halted", state
    expect("VM_BAD_POWER_STATE", x.VM.resume, vm, False, False)
    expect("VM_BAD_POWER_STATE", x.VM.resume_on, vm, x.host.get_all()[0], False, False)
    expect("VM_BAD_POWER_STATE", x.VM.set_VCPUs_number_live, vm, "2")
    x.VM.power_state_reset(vm)
    x.VM.set_memory_dynamic_range(vm, str(64 * MIB), str(128 * MIB))
    expect("MEMORY_CONSTRAINT_VIOLATION", x.VM.set_memory_dynamic_range, vm, str(512 * MIB), str(128 * MIB))
    assert x.VM.get_memory_dynamic_max(vm) == str(128 * MIB), "as it was"
    x.VM.set_memory_static_range(vm, "0", str(512 * MIB))
    x.VM.set_memory_limits(vm, "0", str(256 * MIB), str(128 * MIB), str(256 * MIB))
    x.VM.set_memory(vm, str(192 * MIB))
    x.VM.set_VCPUs_max(vm, "4")
    x.VM.set_VCPUs_at_startup(vm, "3")
    expect("INVALID_VALUE", x.VM.set_VCPUs_at_startup, vm, "5")
    assert x.VM.get_possible_hosts(vm) == x.host.get_all()
    x.VM.assert_operation_valid(vm, "start")
    expect("VM_BAD_POWER_STATE", x.VM.assert_operation_valid, vm, "pause")
    x.VM.set_blocked_operations(vm, {"start": "no"})
    expect("OPERATION_BLOCKED", x.VM.start, vm, False, False)
    x.VM.set_blocked_operations(vm, {})
    x.VM.update_allowed_operations(vm)
    expect("MAP_DUPLICATE_KEY", x.VM.add_to_other_config, vm, "key", "b")

    snapshot = x.VM.snapshot(vm, "before")
    assert x.VM.get_snapshots(vm) == [snapshot] and x.VM.get_is_a_snapshot(snapshot)
    frozen = x.VBD.get_VDI(x.VM.get_VBDs(snapshot)[0])
    assert x.VDI.get_snapshot_of(frozen) == vdi
    expect("VM_IS_SNAPSHOT", x.VM.start, snapshot, False, False)
    x.VM.set_PV_args(vm, "changed")
    x.VM.revert(snapshot)
    assert x.VM.get_PV_args(vm) == "console=hvc0" and x.VM.get_parent(vm) == snapshot
    expect("HANDLE_INVALID", x.VDI.get_uuid, vdi)
    tasks = [x.Async.VM.clone(vm, f"at-once-{n}") for n in range(8)]
    for task in tasks:
        result = wait_task(root, task)["result"]
        x.VM.destroy(result.removeprefix("<value><string>").removesuffix("</string></value>"))
    assert x.VM.get_current_operations(vm) == {}
    clone = x.VM.clone(vm, "two")
    copy = wait_task(root, x.Async.VM.copy(vm, "three", sr))["result"]
    copy = copy.removeprefix("<value><string>").removesuffix("</string></value>")
    assert x.VM.get_name_label(clone) == "two" and len(x.VM.get_VBDs(copy)) == 1
    x.VM.set_is_a_template(clone, True)
    expect("VM_IS_TEMPLATE", x.VM.start, clone, False, False)
    x.VM.provision(clone)
    expect("OPERATION_NOT_ALLOWED", x.VM.destroy, x.host.get_control_domain(x.host.get_all()[0]))
    found = x.VM.get_all_records_where('field "name_label" = "two" and not (field "is_control_domain" = "true")')
    assert list(found) == [clone], found
    expect("INVALID_VALUE", x.VM.get_all_records_where, "((")
    for reference in (vm, clone, copy, snapshot):
        x.VM.destroy(reference)
    for vdi in x.VDI.get_all():
        x.VDI.destroy(vdi)
    assert len(x.VM_metrics.get_all()) == 0 and len(x.VM.get_all()) == 1 and x.VBD.get_all() == []


def events(daemon):
    """Each change comes once, to who asked for it; a wait ends with it."""
    root = daemon.login()
    x, ask = root.xenapi, Events(daemon.login())
    batch = ask(["*"], "", 0.0)
    assert {e["operation"] for e in batch["events"]} == {"add"}
    hosts = [e for e in batch["events"] if e["class"] == "host"]
    assert hosts[0]["snapshot"]["uuid"] == x.host.get_uuid(hosts[0]["ref"])
    assert batch["valid_ref_counts"]["host"] == 1
    token = batch["token"]
    assert ask(["*"], token, 0.0)["events"] == []
    waited = []
    thread = threading.Thread(target=lambda: waited.append(ask(["vm"], token, 60.0)))
    thread.start()
    vm = x.VM.create(vm_record("seen"))
    thread.join(30)
    assert [(e["operation"], e["ref"]) for e in waited[0]["events"]] == [("add", vm)]
    token = waited[0]["token"]
    injected = x.event.inject("VM", vm)
    assert [e["operation"] for e in ask([f"vm/{vm}"], injected, 5.0)["events"]] == ["mod"]
    x.VM.set_name_label(vm, "renamed")
    changes = ask([f"VM/{vm}"], token, 0.0)
    assert [e["snapshot"]["name_label"] for e in changes["events"]] == ["renamed"]
    x.VM.destroy(vm)
    gone = ask(["vm"], changes["token"], 0.0)["events"]
    assert [(e["operation"], e["ref"]) for e in gone] == [("del", vm)] and "snapshot" not in gone[0]
    expect("EVENT_FROM_TOKEN_PARSE_FAILURE", ask, ["vm"], "x", 0.0)
    expect("EVENT_SUBSCRIPTION_PARSE_FAILURE", ask, ["nothing"], "", 0.0)
    assert int(x.event.get_current_id()) > 0
    for name, params in [("register", [["*"]]), ("unregister", [["*"]]), ("next", [])]:
        expect("MESSAGE_DEPRECATED", getattr(x.event, name), *params)


def tasks(daemon):
    root = daemon.login()
    x = root.xenapi
    task = x.task.create("mine", "by hand")
    x.task.set_progress(task, 0.5)
    assert x.task.get_progress(task) == 0.5 and x.task.get_allowed_operations(task) == ["cancel", "destroy"]
    x.task.cancel(task)
    assert x.task.get_status(task) == "cancelled"
    expect("OPERATION_NOT_ALLOWED", x.task.cancel, task)
    x.task.destroy(task)
    expect("HANDLE_INVALID", x.task.get_record, task)


def messages(daemon):
    x = daemon.login().xenapi
    host = x.host.get_uuid(x.host.get_all()[0])
    since = xmlrpc.client.DateTime("20200101T00:00:00Z")
    made = [x.message.create("NAME", "3", "Host", host, f"body {n}") for n in range(3)]
    expect("UUID_INVALID", x.message.create, "NAME", "3", "VM", host, "")
    assert set(x.message.get("Host", host, since)) == set(made) == set(x.message.get_since(since))
    x.message.destroy(made[0])
    x.message.destroy_many(made[1:])
    assert x.message.get_all() == []


def hosts(daemon):
    x = daemon.login().xenapi
    host = x.host.get_all()[0]
    assert x.host.get_servertime(host).value.endswith("Z")
    x.host.get_server_localtime(host)
    x.host.compute_memory_overhead(host)
    expect("INTERNAL_ERROR", x.host.compute_free_memory, host)
    x.host.disable(host)
    vm = x.VM.create(vm_record("x"))
    expect("HOST_DISABLED", x.VM.start, vm, False, False)
    x.host.enable(host)
    x.VM.destroy(vm)
    x.PIF.scan(host)
    assert len(x.host.get_host_CPUs(host)) == os.cpu_count()
    assert x.pool.get_master(x.pool.get_all()[0]) == host
