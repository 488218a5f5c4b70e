"""Messages that follow from the data model."""

import xmlrpc.client

import XenAPI
from common import expect, vbd_record, vdi_record, vm_record
from daemon import CALLED


def implicit(daemon, sr):
    """Every message that follows from the model: of each class an object, read field by field, by XML-RPC and by JSON-RPC 1.0."""
    x, j = daemon.login().xenapi, daemon.json("1.0")
    host = x.host.get_all()[0]
    vm = x.VM.create(vm_record("all"))
    vdi = x.VDI.create(vdi_record(sr, "all"))
    vbd = x.VBD.create(vbd_record(vm, vdi))
    network = x.network.create({"name_label": "all", "bridge": ""})
    vif = x.VIF.create({"device": "0", "network": network, "VM": vm})
    x.message.create("NAME", "3", "Host", x.host.get_uuid(host), "")
    task = x.task.create("all", "")
    x.PBD.unplug(x.SR.get_PBDs(sr)[0])
    methods = set(x.host.list_methods())
    records = {}
    for name in sorted({m.split(".")[0] for m in methods}):
        found = {}
        if f"{name}.get_all" in methods:
            api = getattr(x, name)
            found = api.get_all_records()
            assert set(found) == set(api.get_all()) == set(api.get_all_records_where("true"))
        records[name] = found
    own = j.session
    records["session"] = {own: x.session.get_record(own)}
    empty = {name for name, found in records.items() if not found}
    # Nothing makes these without a guest (or a network card), so their messages can only refuse.
    assert empty <= {"event", "VBD_metrics", "VIF_metrics", "VM_guest_metrics", "console", "PIF", "PIF_metrics"}, empty
    wanted = methods - CALLED | {m for m in methods if ".get_" in m}
    for method in sorted(wanted, key=lambda m: (".get_" not in m, m)):
        name, message = method.split(".", 1)
        call = lambda *params: getattr(getattr(x, name), message)(*params)
        other = lambda *params: j.call(method, *params)
        if name == "event":
            continue
        reference, record = next(iter(records[name].items()), ("OpaqueRef:none", None))
        if message == "get_by_uuid":
            if record is None:
                expect("UUID_INVALID", call, "none")
            else:
                assert call(record["uuid"]) == other(record["uuid"]) == reference
        elif message == "get_by_name_label":
            assert reference in call(record["name_label"])
        elif message in ("get_all", "get_all_records", "get_all_records_where") or method in CALLED and message[4:] not in (record or {}):
            continue
        elif record is None:
            check_refused(method, call)
        elif message == "get_record":
            other(reference)
        elif message.startswith("get_") and message[4:] in record:
            plain = other(reference)
            if message[4:] in ("allowed_operations", "last_active"):
                continue
            assert same(call(reference), plain), f"{method}: {plain}"
            assert same(record[message[4:]], plain), f"{method}: {plain} in the record {record[message[4:]]}"
        elif message.startswith("set_") and message[4:] in record:
            call(reference, record[message[4:]])
        elif message.startswith("add_to_"):
            call(reference, key(message), "destroy")
            assert key(message) in getattr(getattr(x, name), "get_" + message[7:])(reference)
        elif message.startswith("remove_from_"):
            call(reference, key(message))
        elif message.startswith(("add_", "remove_")):
            call(reference, "coverage")
    x.PBD.plug(x.SR.get_PBDs(sr)[0])
    for name, reference in [("VBD", vbd), ("VIF", vif), ("VM", vm), ("VDI", vdi), ("network", network), ("task", task)]:
        getattr(x, name).destroy(reference)
    for message in x.message.get_all():
        x.message.destroy(message)
    missing = methods - CALLED
    assert not missing, f"never called: {sorted(missing)}"


def key(message):
    """Keys of this one map are words of an enumeration."""
    return "clone" if message.endswith("_blocked_operations") else "coverage"


def check_refused(method, call):
    """A message about an object that there is not: refused as such, not as unknown."""
    for params in (["OpaqueRef:none"], ["OpaqueRef:none", {}], ["OpaqueRef:none", "k"], ["OpaqueRef:none", "k", "v"]):
        try:
            call(*params)
        except XenAPI.Failure as failure:
            if failure.details[0] in ("MESSAGE_PARAMETER_COUNT_MISMATCH", "FIELD_TYPE_ERROR"):
                continue
            assert failure.details[0] == "HANDLE_INVALID", f"{method}: {failure.details}"
            return
    raise AssertionError(f"{method} is not refused")


def same(one, other):
    """A value as XML-RPC has it and as JSON-RPC has it."""
    if isinstance(one, xmlrpc.client.DateTime):
        return one.value == other
    if isinstance(other, bool) or isinstance(one, float):
        return one == other
    if isinstance(other, int):
        return one == str(other)
    if isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other))
    if isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in other)
    return one == other
