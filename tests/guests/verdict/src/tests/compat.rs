//! 32-bit callers: a child in 32-bit mode makes the calls, this domain prepares and checks the structures.

use core::mem::{offset_of, size_of};
use harness::boot::Entry;
use harness::domain::{Child, Config};
use harness::mailbox::DATA;
use harness::{Outcome, Verdict, ensure, ensure_eq, tests, time};
use xen_abi::Errno;
use xen_abi::compat::*;
use xen_abi::event_channel::*;
use xen_abi::grant_table::*;
use xen_abi::hvm_op::*;
use xen_abi::hypercall::*;
use xen_abi::memory::*;
use xen_abi::sched::*;
use xen_abi::vcpu::*;
use xen_abi::version::*;
use xen_abi::xen::{DOMID_SELF, VIRQ_TIMER};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

tests! {
    here: compat_version, compat_memory, compat_shared_info_layout, compat_1024_event_channels, compat_runstate_area,
        compat_timers, compat_poll, compat_grant_table, compat_parameters, compat_real_mode_calls;
}

/// Where the child has its mailbox.
const MAILBOX: u64 = harness::mailbox::GFN << 12;
/// Frames of the child that tests put to use.
const SHARED_GFN: u32 = 0x1710;
const GRANT_GFN: u32 = 0x1711;
const SPARE_GFN: u32 = 0x1712;
/// The asm server reads a word instead of calling.
const PEEK: u32 = u32::MAX;
/// Filler that shows which bytes a call wrote.
const FILL: u8 = 0xa5;

/// A child in 32-bit mode.
struct Guest(Child);

impl Guest {
    fn new() -> Result<Self, Outcome> {
        let config = Config { entry: Entry::Serve32.address(), max_port: -1, ..Config::default() };
        Ok(Self(Child::with(&config, "")?))
    }

    /// Address, in the child, of byte `offset` of the part of the mailbox that is free for tests.
    fn at(offset: u64) -> u32 {
        (MAILBOX + DATA + offset) as u32
    }

    fn raw(&self, number: u32, args: [u32; 5]) -> Result<i32, Outcome> {
        let [a, b, c, d, e] = args.map(u64::from);
        Ok(self.0.call(number as usize, [a, b, c, d, e, 0])? as u32 as i32)
    }

    fn put<T: IntoBytes + Immutable>(&self, offset: u64, value: &T) {
        self.0.mailbox.set_structure(DATA + offset, value);
    }

    fn take<T: FromBytes + IntoBytes>(&self, offset: u64) -> T {
        self.0.mailbox.structure(DATA + offset)
    }

    fn fill(&self) {
        self.put(0, &[FILL; 512]);
    }

    /// A call with a command and a structure at offset 0.
    fn call<T: IntoBytes + Immutable>(
        &self,
        number: u32,
        command: u32,
        argument: &T,
    ) -> Result<i32, Outcome> {
        self.put(0, argument);
        self.raw(number, [command, Self::at(0), 0, 0, 0])
    }

    fn peek(&self, address: u64) -> Result<u32, Outcome> {
        Ok(self.raw(PEEK, [address as u32, 0, 0, 0, 0])? as u32)
    }

    /// Sets the callback, by which the shared structures take their 32-bit layout, and maps the shared page.
    fn share(&self) -> Verdict {
        let value = HVM_PARAM_CALLBACK_TYPE_VECTOR << 56 | 0x40;
        let callback = HvmParam { domid: DOMID_SELF, _pad: 0, index: HVM_PARAM_CALLBACK_IRQ, value };
        ensure_eq!(self.call(HYPERVISOR_HVM_OP, HVMOP_SET_PARAM, &callback)?, 0, "callback");
        self.add(XENMAPSPACE_SHARED_INFO, SHARED_GFN)
    }

    fn add(&self, space: u32, gpfn: u32) -> Verdict {
        let map = CompatAddToPhysmap { domid: DOMID_SELF, size: 0, space, idx: 0, gpfn };
        ensure_eq!(
            self.call(HYPERVISOR_MEMORY_OP, XENMEM_ADD_TO_PHYSMAP, &map)?,
            0,
            "add_to_physmap {space}"
        );
        Ok(())
    }

    /// A word of the shared page.
    fn shared(&self, offset: usize) -> Result<u32, Outcome> {
        self.peek((u64::from(SHARED_GFN) << 12) + offset as u64)
    }

    /// Allocates event channels by multicalls until `count` calls have been made; returns the first port and how many
    /// calls succeeded.
    fn allocate(&self, count: u32) -> Result<(u32, u32), Outcome> {
        const BATCH: u32 = 48;
        let list = 64;
        let (mut first, mut good, mut left) = (None, 0, count);
        while left > 0 {
            let n = left.min(BATCH);
            left -= n;
            for i in 0..n {
                self.put(
                    8 * u64::from(i),
                    &EvtchnAllocUnbound { dom: DOMID_SELF, remote_dom: DOMID_SELF, port: 0 },
                );
                let args = [EVTCHNOP_ALLOC_UNBOUND, Self::at(8 * u64::from(i)), 0, 0, 0, 0];
                let entry = CompatMulticallEntry { op: HYPERVISOR_EVENT_CHANNEL_OP, result: 77, args };
                self.put(8 * list + 32 * u64::from(i), &entry);
            }
            ensure_eq!(self.raw(HYPERVISOR_MULTICALL, [Self::at(8 * list), n, 0, 0, 0])?, 0, "multicall");
            for i in 0..u64::from(n) {
                let entry: CompatMulticallEntry = self.take(8 * list + 32 * i);
                let result = entry.result as i32;
                ensure!(result == 0 || result == Errno::ENOSPC.to_ret32(), "alloc_unbound: {result}");
                if result == 0 {
                    good += 1;
                    first = first.or(Some(self.take::<EvtchnAllocUnbound>(8 * i).port));
                }
            }
        }
        Ok((first.unwrap_or(0), good))
    }
}

/// Strings are the same as for a 64-bit caller; the platform parameters are one 32-bit word.
fn compat_version() -> Verdict {
    let guest = Guest::new()?;
    let own = harness::Page::new();
    harness::hypercall::raw(
        u64::from(HYPERVISOR_XEN_VERSION),
        [u64::from(XENVER_EXTRAVERSION), own.at(0), 0, 0, 0],
    );
    guest.fill();
    ensure_eq!(
        guest.raw(HYPERVISOR_XEN_VERSION, [XENVER_EXTRAVERSION, Guest::at(0), 0, 0, 0])?,
        0,
        "extra version"
    );
    ensure_eq!(guest.take::<[u8; 16]>(0), own.structure::<[u8; 16]>(0), "extra version");
    guest.fill();
    let call = [XENVER_PLATFORM_PARAMETERS, Guest::at(0), 0, 0, 0];
    ensure_eq!(guest.raw(HYPERVISOR_XEN_VERSION, call)?, 0, "platform parameters");
    ensure!(guest.take::<u32>(0) != u32::from_le_bytes([FILL; 4]), "nothing was written");
    ensure_eq!(guest.take::<[u8; 4]>(4), [FILL; 4], "bytes behind the structure");
    ensure_eq!(guest.raw(HYPERVISOR_XEN_VERSION, [XENVER_PAGESIZE, 0, 0, 0, 0])?, 4096, "page size");
    guest.0.destroy()
}

/// Reservations, removal and their lists of 32-bit frame numbers.
fn compat_memory() -> Verdict {
    let guest = Guest::new()?;
    let before = guest.0.info()?.tot_pages;
    let list = CompatMemoryReservation {
        extent_start: CompatHandle::new(Guest::at(64)),
        nr_extents: 3,
        extent_order: 0,
        mem_flags: 0,
        domid: DOMID_SELF,
        _pad: [0; 2],
    };
    guest.put(64, &[0x1800_u32, 0x1801, 0x1802]);
    ensure_eq!(guest.call(HYPERVISOR_MEMORY_OP, XENMEM_POPULATE_PHYSMAP, &list)?, 3, "extents populated");
    ensure_eq!(guest.0.info()?.tot_pages, before + 3, "pages");
    ensure_eq!(
        guest.call(HYPERVISOR_MEMORY_OP, XENMEM_DECREASE_RESERVATION, &list)?,
        3,
        "extents given back"
    );
    ensure_eq!(guest.0.info()?.tot_pages, before, "pages at the end");
    ensure_eq!(
        guest.call(HYPERVISOR_MEMORY_OP, XENMEM_CURRENT_RESERVATION, &DOMID_SELF)?,
        before as i32,
        "reservation"
    );
    // PV only: a translated domain has nothing to exchange.
    guest.put(64, &0x1800_u32);
    let one = CompatMemoryReservation { nr_extents: 1, ..list };
    let exchange = |input, out| CompatMemoryExchange { input, out, nr_exchanged: 0 };
    let refused = guest.call(HYPERVISOR_MEMORY_OP, XENMEM_EXCHANGE, &exchange(one, list))?;
    ensure_eq!(refused, Errno::EINVAL.to_ret32(), "exchange of one frame for three");
    guest.put(64, &SPARE_GFN);
    let refused = guest.call(HYPERVISOR_MEMORY_OP, XENMEM_EXCHANGE, &exchange(one, one))?;
    ensure_eq!(refused, Errno::EOPNOTSUPP.to_ret32(), "exchange of a frame");
    guest.share()?;
    let remove = CompatRemoveFromPhysmap { domid: DOMID_SELF, _pad: [0; 2], gpfn: SHARED_GFN };
    ensure_eq!(
        guest.call(HYPERVISOR_MEMORY_OP, XENMEM_REMOVE_FROM_PHYSMAP, &remove)?,
        0,
        "remove_from_physmap"
    );
    guest.0.destroy()
}

/// Event bits, selectors and the wall clock lie where a 32-bit kernel looks for them.
fn compat_shared_info_layout() -> Verdict {
    const PORTS: u32 = 100;
    let guest = Guest::new()?;
    guest.share()?;
    let (first, allocated) = guest.allocate(PORTS)?;
    ensure_eq!(allocated, PORTS, "ports");
    let port = first + PORTS - 1;
    let bind =
        EvtchnBindInterdomain { remote_dom: DOMID_SELF, _pad: [0; 2], remote_port: port, local_port: 0 };
    ensure_eq!(
        guest.call(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_BIND_INTERDOMAIN, &bind)?,
        0,
        "bind_interdomain"
    );
    let local = guest.take::<EvtchnBindInterdomain>(0).local_port;
    // Binding makes an event of its own on both ends.
    let selected = offset_of!(CompatVcpuInfo, evtchn_pending_sel);
    ensure!(guest.shared(selected)? >> (port / 32) & 1 == 1, "selector {:#x}", guest.shared(selected)?);
    ensure_eq!(
        guest.call(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_SEND, &EvtchnSend { port: local })?,
        0,
        "send"
    );
    let word = offset_of!(CompatSharedInfo, evtchn_pending) + (port / 32) as usize * 4;
    ensure!(guest.shared(word)? >> (port % 32) & 1 == 1, "pending word {:#x}", guest.shared(word)?);
    ensure_eq!(guest.shared(0)? & 0xff, 1, "upcall pending");
    let clock = offset_of!(CompatSharedInfo, wc_version);
    let (version, seconds) = (guest.shared(clock)?, guest.shared(clock + 4)?);
    ensure!(version != 0 && version % 2 == 0, "version {version} of the wall clock");
    ensure!(seconds > 1_500_000_000, "wall clock {seconds}");
    let high = offset_of!(CompatSharedInfo, arch) + offset_of!(CompatArchSharedInfo, wc_sec_hi);
    ensure_eq!(guest.shared(high)?, 0, "high half of the seconds");
    let tsc_version = guest.shared(offset_of!(CompatVcpuInfo, time))?;
    ensure!(tsc_version != 0 && tsc_version % 2 == 0, "version {tsc_version} of the time record");
    guest.0.destroy()
}

/// 32 words of 32 bits: 1024 event channels, with port 0.
fn compat_1024_event_channels() -> Verdict {
    let guest = Guest::new()?;
    guest.share()?;
    let (first, allocated) = guest.allocate(1040)?;
    ensure_eq!(first - 1 + allocated, 1023, "highest port");
    guest.0.destroy()
}

/// The run-state area is 44 bytes long, its times are at 12.
fn compat_runstate_area() -> Verdict {
    let guest = Guest::new()?;
    guest.share()?;
    guest.fill();
    guest.put(0, &Guest::at(64));
    let register = [VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, 0, Guest::at(0), 0, 0];
    ensure_eq!(guest.raw(HYPERVISOR_VCPU_OP, register)?, 0, "registration");
    time::sleep_ms(5);
    let now = time::now();
    let ok = |r: CompatVcpuRunstateInfo| {
        let (entered, times) = (r.state_entry_time, r.time);
        let total = times.iter().fold(0_u64, |a, t| a.saturating_add(*t));
        (0..=2).contains(&{ r.state })
            && entered != 0
            && entered <= time::now()
            && total != 0
            && total <= now * 2
    };
    let area: CompatVcpuRunstateInfo = guest.take(64);
    // The child runs and waits in turn, and its record may be caught half-written.
    ensure!(time::wait(1000, || ok(guest.take(64))), "area: {:?}", area);
    ensure_eq!(
        guest.take::<[u8; 4]>(64 + size_of::<CompatVcpuRunstateInfo>() as u64),
        [FILL; 4],
        "bytes behind the area"
    );
    ensure_eq!(guest.raw(HYPERVISOR_VCPU_OP, [VCPUOP_GET_RUNSTATE_INFO, 0, Guest::at(256), 0, 0])?, 0, "get");
    let got: CompatVcpuRunstateInfo = guest.take(256);
    ensure!(ok(got), "got {got:?}");
    ensure_eq!(guest.take::<[u8; 4]>(256 + 44), [FILL; 4], "bytes behind the structure");
    guest.0.destroy()
}

/// Single-shot timers by structure and by two halves in registers.
fn compat_timers() -> Verdict {
    let guest = Guest::new()?;
    guest.share()?;
    let bind = EvtchnBindVirq { virq: VIRQ_TIMER, vcpu: 0, port: 0 };
    ensure_eq!(guest.call(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_BIND_VIRQ, &bind)?, 0, "bind_virq");
    let port = guest.take::<EvtchnBindVirq>(0).port;
    let word = offset_of!(CompatSharedInfo, evtchn_pending) + (port / 32) as usize * 4;
    let far = time::now() + (8 << 32);
    ensure_eq!(
        guest.raw(HYPERVISOR_SET_TIMER_OP, [far as u32, (far >> 32) as u32, 0, 0, 0])?,
        0,
        "set_timer_op"
    );
    time::sleep_ms(10);
    ensure_eq!(guest.shared(word)? >> (port % 32) & 1, 0, "event of a timer 34 s from now");
    // A time that has passed fires at once, whatever the flag.
    guest.put(0, &CompatVcpuSetSingleshotTimer { timeout_abs_ns: 1, flags: VCPU_SSHOTTMR_FUTURE });
    let set = [VCPUOP_SET_SINGLESHOT_TIMER, 0, Guest::at(0), 0, 0];
    ensure_eq!(guest.raw(HYPERVISOR_VCPU_OP, set)?, 0, "set_singleshot_timer");
    let fired = || guest.shared(word).is_ok_and(|w| w >> (port % 32) & 1 == 1);
    ensure!(time::wait(1000, fired), "no event");
    guest.0.destroy()
}

/// Polling takes a 16-byte structure.
fn compat_poll() -> Verdict {
    let guest = Guest::new()?;
    guest.share()?;
    let poll = |timeout: u64, nr_ports: u32| CompatSchedPoll {
        ports: CompatHandle::new(Guest::at(64)),
        nr_ports,
        timeout,
    };
    let (port, _) = guest.allocate(1)?;
    guest.put(64, &port);
    let before = time::now();
    ensure_eq!(guest.call(HYPERVISOR_SCHED_OP, SCHEDOP_POLL, &poll(before + 20_000_000, 1))?, 0, "poll");
    ensure!(time::now() >= before + 20_000_000, "it did not wait");
    guest.put(64, &2000_u32);
    let refused = guest.call(HYPERVISOR_SCHED_OP, SCHEDOP_POLL, &poll(before, 1))?;
    ensure_eq!(refused, Errno::EINVAL.to_ret32(), "a port beyond 1024");
    ensure_eq!(
        guest.call(HYPERVISOR_SCHED_OP, SCHEDOP_POLL, &poll(1, 129))?,
        Errno::EINVAL.to_ret32(),
        "129 ports"
    );
    guest.0.destroy()
}

/// Set-up, size and copies: structures with 32-bit frames and pointers.
fn compat_grant_table() -> Verdict {
    let guest = Guest::new()?;
    let grant = |op: u32, count: u32| guest.raw(HYPERVISOR_GRANT_TABLE_OP, [op, Guest::at(0), count, 0, 0]);
    guest.add(XENMAPSPACE_GRANT_TABLE, GRANT_GFN)?;
    guest.put(0, &GnttabQuerySize { dom: DOMID_SELF, ..GnttabQuerySize::new_zeroed() });
    ensure_eq!(grant(GNTTABOP_QUERY_SIZE, 1)?, 0, "query_size");
    ensure_eq!(guest.take::<GnttabQuerySize>(0).max_nr_frames, 8, "frames at most");
    guest.fill();
    let frame_list = CompatHandle::new(Guest::at(64));
    let setup = CompatGnttabSetupTable {
        dom: DOMID_SELF,
        nr_frames: 1,
        status: 99,
        frame_list,
        ..FromZeros::new_zeroed()
    };
    guest.put(0, &setup);
    ensure_eq!(grant(GNTTABOP_SETUP_TABLE, 1)?, 0, "setup_table");
    ensure_eq!(guest.take::<CompatGnttabSetupTable>(0).status, 0, "its status");
    ensure_eq!(guest.take::<[u8; 4]>(68), [FILL; 4], "bytes behind the list");
    // Two copies, so that the second shows the size of an operation: within the mailbox, to another frame.
    let pointer = |u: u32, offset: u64| CompatGnttabCopyPtr { u, domid: DOMID_SELF, offset: offset as u16 };
    for (i, n) in [(0, 0x1111_1111_u32), (1, 0x2222_2222)] {
        guest.put(256 + 4 * i, &n);
        let copy = CompatGnttabCopy {
            source: pointer(harness::mailbox::GFN as u32, DATA + 256 + 4 * i),
            dest: pointer(SPARE_GFN, 512 * i),
            len: 4,
            flags: 0,
            status: 99,
            _pad: [0; 2],
        };
        guest.put(size_of::<CompatGnttabCopy>() as u64 * i, &copy);
    }
    ensure_eq!(grant(GNTTABOP_COPY, 2)?, 0, "copy");
    for i in 0..2 {
        let copy: CompatGnttabCopy = guest.take(size_of::<CompatGnttabCopy>() as u64 * i);
        ensure_eq!(copy.status, 0, "status of copy {i}");
    }
    let spare = u64::from(SPARE_GFN) << 12;
    ensure_eq!((guest.peek(spare)?, guest.peek(spare + 512)?), (0x1111_1111, 0x2222_2222), "what was copied");
    guest.0.destroy()
}

/// Parameters and the clock of hvm_op; errors are negative 32-bit numbers.
fn compat_parameters() -> Verdict {
    let guest = Guest::new()?;
    let get = HvmParam { domid: DOMID_SELF, _pad: 0, index: HVM_PARAM_CALLBACK_IRQ, value: 1 };
    guest.share()?;
    ensure_eq!(guest.call(HYPERVISOR_HVM_OP, HVMOP_GET_PARAM, &get)?, 0, "get_param");
    ensure_eq!(guest.take::<HvmParam>(0).value, HVM_PARAM_CALLBACK_TYPE_VECTOR << 56 | 0x40, "callback");
    let wrong = HvmParam { index: 9999, ..get };
    ensure_eq!(
        guest.call(HYPERVISOR_HVM_OP, HVMOP_GET_PARAM, &wrong)?,
        Errno::EINVAL.to_ret32(),
        "parameter 9999"
    );
    let null = [HVMOP_GET_PARAM, 0xffff_f000, 0, 0, 0];
    ensure_eq!(guest.raw(HYPERVISOR_HVM_OP, null)?, Errno::EFAULT.to_ret32(), "an address without memory");
    guest.0.destroy()
}

/// Real mode may call as well, by linear addresses below 1 MiB.
fn compat_real_mode_calls() -> Verdict {
    let child = Child::with(&Config { entry: Entry::Real16.address(), ..Config::default() }, "")?;
    ensure_eq!(child.wait_shutdown(5000)?, SHUTDOWN_REBOOT, "shutdown reason");
    child.destroy()
}
