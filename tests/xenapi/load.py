"""Many clients at once, and a daemon that is killed."""

import os
import subprocess
import threading
import time
import xmlrpc.client

from common import MIB, vbd_record, vdi_record, vm_record


def together(daemon, sr):
    """20 clients make, snapshot and remove volumes and VMs at once."""
    failures = []

    def client(number):
        try:
            x = daemon.login(tls=number % 2 == 0).xenapi
            for turn in range(2):
                vdi = x.VDI.create(vdi_record(sr, f"{number}-{turn}"))
                vm = x.VM.create(vm_record(f"{number}-{turn}"))
                x.VBD.create(vbd_record(vm, vdi))
                made = [x.VDI.snapshot(vdi), x.VDI.clone(vdi)]
                copy = x.VM.clone(vm, f"{number}-{turn}-clone")
                made.append(x.VBD.get_VDI(x.VM.get_VBDs(copy)[0]))
                for reference in (vm, copy):
                    x.VM.destroy(reference)
                for reference in (vdi, *made):
                    x.VDI.destroy(reference)
        except Exception as error:
            failures.append(f"client {number}: {error!r}")

    threads = [threading.Thread(target=client, args=(n,)) for n in range(20)]
    started = time.time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    print(f"20 clients, 160 volumes, 80 VMs made and removed: {time.time() - started:.1f} s")


def bridges_as_recorded(x):
    """Bridges of managed networks, which are the kernel's."""
    bridges = {r["bridge"] for r in x.network.get_all_records().values() if r["managed"]}
    links = subprocess.run(["ip", "-o", "link", "show", "type", "bridge"], capture_output=True, text=True, check=True).stdout
    assert bridges == {line.split(": ")[1] for line in links.splitlines()}, f"{bridges}, but there is {links}"
    return bridges


def killed(daemon, sr, place):
    """Killed in the middle of changes, several times: what was answered is there, what was not is there whole or not at all."""
    promised, gone = {}, set()
    lock = threading.Lock()
    for round in range(4):
        stop = threading.Event()

        def client(number):
            try:
                x = daemon.login().xenapi
                for turn in range(1000):
                    name = f"{round}-{number}-{turn}"
                    vdi = x.VDI.create(vdi_record(sr, name, MIB * (1 + number)))
                    with lock:
                        promised[vdi] = (name, str(MIB * (1 + number)))
                    vm = x.VM.create(vm_record(name))
                    x.VBD.create(vbd_record(vm, vdi))
                    x.VM.destroy(x.VM.clone(vm, "clone"))
                    if number == 0:
                        x.network.destroy(x.network.create({"name_label": name}))
                    if turn % 3 == 0:
                        with lock:
                            del promised[vdi]
                        x.VDI.destroy(vdi)
                        gone.add(vdi)
            except (OSError, xmlrpc.client.ProtocolError, xmlrpc.client.Fault, EOFError):
                stop.set()
            except Exception as error:
                # A connection that breaks in the middle of an answer.
                if "HTTPException" not in str(type(error).__mro__):
                    raise
                stop.set()

        threads = [threading.Thread(target=client, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        target = len(promised) + 6 + round
        while len(promised) < target:
            time.sleep(0.005)
        daemon.kill()
        for thread in threads:
            thread.join()
        daemon.start()
        x = daemon.login().xenapi
        records = x.VDI.get_all_records()
        for vdi, (name, size) in promised.items():
            assert vdi in records, f"{name} was promised, and is lost"
            assert (records[vdi]["name_label"], records[vdi]["virtual_size"]) == (name, size)
            assert not records[vdi]["missing"]
        assert not gone & records.keys(), "what was removed is back"
        files = set(os.listdir(os.path.join(place, "volumes")))
        assert files == {r["location"] + ".raw" for r in records.values()}, "files and volumes differ"
        bridges_as_recorded(x)
        assert all(r["current_operations"] == {} for r in x.VM.get_all_records().values())
    # A host that is started anew has no bridges.
    bridge = x.network.get_bridge(x.network.create({"name_label": "after"}))
    daemon.kill()
    subprocess.run(["ip", "link", "del", bridge], check=True)
    daemon.start()
    x = daemon.login().xenapi
    assert bridge in bridges_as_recorded(x)
    print(f"killed 4 times with {len(promised)} volumes: nothing lost, nothing left over")
    for network, record in x.network.get_all_records().items():
        if record["managed"]:
            x.network.destroy(network)
    for vm, record in x.VM.get_all_records().items():
        if not record["is_control_domain"]:
            x.VM.destroy(vm)
    for vdi in x.VDI.get_all():
        x.VDI.destroy(vdi)
    assert os.listdir(os.path.join(place, "volumes")) == []
