"""What all cases use."""

import time

import XenAPI

MIB = 1 << 20


def expect(code, call, *params):
    """The call fails with that code; its parameters are returned."""
    try:
        result = call(*params)
    except XenAPI.Failure as failure:
        assert failure.details[0] == code, f"{failure.details} instead of {code}"
        return failure.details[1:]
    raise AssertionError(f"{result!r} instead of {code}")


class Events:
    """`event.from` is no name that Python can write."""

    def __init__(self, session):
        self.session = session

    def __call__(self, classes, token, timeout):
        return getattr(self.session.xenapi.event, "from")(classes, token, timeout)


def wait_task(session, task, status="success", limit=60):
    """Follows a task by events until it has ended (as `status` says, if it does); its record."""
    x, events = session.xenapi, Events(session)
    token, deadline = "", time.time() + limit
    while time.time() < deadline:
        record = x.task.get_record(task)
        if record["status"] not in ("pending", "cancelling"):
            assert status in (None, record["status"]), record
            assert (record["progress"] == 1.0) == (record["status"] == "success")
            return record
        token = events([f"task/{task}"], token, 5.0)["token"]
    raise AssertionError("the task does not end")


def vm_record(name, **more):
    record = {
        "name_label": name, "name_description": "", "user_version": "1", "is_a_template": False, "affinity": "OpaqueRef:NULL",
        "memory_static_max": str(256 * MIB), "memory_dynamic_max": str(256 * MIB), "memory_dynamic_min": str(128 * MIB),
        "memory_static_min": str(64 * MIB), "VCPUs_params": {}, "VCPUs_max": "2", "VCPUs_at_startup": "1",
        "actions_after_shutdown": "destroy", "actions_after_reboot": "restart", "actions_after_crash": "destroy",
        "PV_bootloader": "", "PV_kernel": "vmlinuz", "PV_ramdisk": "", "PV_args": "console=hvc0", "PV_bootloader_args": "",
        "PV_legacy_args": "", "HVM_boot_params": {}, "platform": {}, "PCI_bus": "", "other_config": {"key": "a & <b>"},
        "recommendations": "", "xenstore_data": {}, "ha_restart_priority": "", "tags": ["one"],
    }
    record.update(more)
    return record


def vbd_record(vm, vdi, **more):
    record = {
        "VM": vm, "VDI": vdi, "userdevice": "0", "bootable": True, "mode": "RW", "type": "Disk", "unpluggable": True, "empty": False,
        "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {},
    }
    record.update(more)
    return record


def vdi_record(sr, name, size=8 * MIB, **more):
    record = {
        "name_label": name, "name_description": "", "SR": sr, "virtual_size": str(size), "type": "user", "sharable": False,
        "read_only": False, "other_config": {}, "xenstore_data": {}, "sm_config": {}, "tags": [],
    }
    record.update(more)
    return record
