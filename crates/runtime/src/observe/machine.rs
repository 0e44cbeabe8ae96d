//! Facts about the machine, read once at the start and away from the request path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// How old the available memory may be.
const REFRESH: Duration = Duration::from_secs(5);

/// The machine that the process runs on; the fields are those of `wit/diagnostics.wit`.
#[derive(Debug)]
pub struct Machine {
    /// This process, as the operating system counts.
    pub process_id: u32,
    /// What the platform calls this instance of the app, where it says so.
    pub platform_instance: Option<String>,
    /// The host name.
    pub host_name: String,
    /// Logical processors.
    pub cpu_count: u32,
    /// Model of the first processor.
    pub cpu_model: String,
    /// In bytes: the control group's limit where it is the smaller one.
    pub memory_total: u64,
    /// Operating system, kernel and architecture.
    pub platform: String,
    /// Release of the kernel, such as `6.6.126.1-1.azl3`.
    pub kernel: String,
    memory_available: AtomicU64,
}

impl Machine {
    /// Asks the operating system; what it does not tell is empty or zero. Takes about a millisecond.
    pub fn read(platform_instance: Option<String>) -> Self {
        let what = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(what).ok();
        let cpus = system.as_ref().map_or(&[][..], System::cpus);
        let (memory_total, memory_available) = system.as_ref().map_or((0, 0), memory);
        let kernel = System::kernel_version().ok();
        let platform = [System::name().ok(), kernel.clone(), Some(std::env::consts::ARCH.to_owned())];
        Self {
            process_id: std::process::id(),
            platform_instance,
            host_name: System::host_name().unwrap_or_default(),
            cpu_count: u32::try_from(cpus.len()).unwrap_or(u32::MAX),
            cpu_model: cpus.first().map(|cpu| cpu.brand().trim().to_owned()).unwrap_or_default(),
            memory_total,
            platform: platform.into_iter().flatten().collect::<Vec<_>>().join(" "),
            kernel: kernel.unwrap_or_default(),
            memory_available: AtomicU64::new(memory_available),
        }
    }

    /// Bytes that can be had without swapping, at most a few seconds old.
    pub fn memory_available(&self) -> u64 {
        self.memory_available.load(Ordering::Relaxed)
    }

    /// Keeps the available memory fresh for as long as anybody else holds `self`.
    pub async fn keep_fresh(self: Arc<Self>) {
        let Ok(mut system) = System::new() else { return };
        let machine = Arc::downgrade(&self);
        drop(self);
        loop {
            tokio::time::sleep(REFRESH).await;
            system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
            let Some(machine) = machine.upgrade() else { return };
            machine.memory_available.store(memory(&system).1, Ordering::Relaxed);
        }
    }
}

/// Total and available bytes, of the control group where it sets a limit.
fn memory(system: &System) -> (u64, u64) {
    let (total, available) = (system.total_memory(), system.available_memory());
    match system.cgroup_limits() {
        Some(group) if (1..total).contains(&group.total_memory) => {
            (group.total_memory, group.free_memory.min(available))
        }
        _ => (total, available),
    }
}

thread_local! {
    /// Asking the operating system for each request would cost as much as routing it.
    static THREAD: (u64, Arc<str>) = {
        let id = rustix::thread::gettid().as_raw_nonzero().get();
        (u64::from(id.unsigned_abs()), std::thread::current().name().unwrap_or_default().into())
    };
}

/// The calling thread's id, as the operating system counts, and its name.
pub fn current_thread() -> (u64, Arc<str>) {
    THREAD.with(|(id, name)| (*id, Arc::clone(name)))
}
