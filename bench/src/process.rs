//! Processor time and memory of processes and their children, read from `/proc`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

/// A tick of the times in `/proc/PID/stat`: Linux counts these in hundredths of a second on every
/// architecture that Rust's standard library supports, whatever the kernel's own timer does.
const TICK: Duration = Duration::from_millis(10);

/// Processes to watch, each with all of its children.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    roots: Vec<u32>,
}

/// Memory of all watched processes in mebibytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Memory {
    /// Resident memory, where a page that several processes share counts once for each of them.
    pub(crate) rss_mib: f64,
    /// Resident memory, where a shared page is divided among its processes. None if the kernel doesn't tell,
    /// because a process belongs to another user.
    pub(crate) pss_mib: Option<f64>,
}

impl Memory {
    /// The fairer of the two figures: a database's processes share most of their memory.
    pub(crate) fn mib(self) -> f64 {
        self.pss_mib.unwrap_or(self.rss_mib)
    }
}

/// One line of `/proc/PID/stat`, as far as it matters here.
#[derive(Debug, PartialEq)]
struct Stat {
    parent: u32,
    /// Ticks of the process itself.
    own: u64,
    /// Ticks of its children that have ended.
    ended: u64,
}

impl Watch {
    /// Watches these processes; an error if one doesn't run.
    pub(crate) fn new(pids: &[u32]) -> Result<Self> {
        for pid in pids {
            if !fs::exists(format!("/proc/{pid}/stat"))? {
                bail!("there is no process {pid} (--pid)");
            }
        }
        Ok(Self {
            roots: pids.to_vec(),
        })
    }

    /// Whether nothing is watched.
    pub(crate) fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Adds a process.
    pub(crate) fn add(&mut self, pid: u32) {
        self.roots.push(pid);
    }

    /// Processor time taken so far, user and system, to a hundredth of a second per process.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let processes = processes().context("reading /proc")?;
        let ticks: u64 = self
            .tree(&processes)?
            .iter()
            .map(|pid| &processes[pid])
            .map(|process| process.own + process.ended)
            .sum();
        Ok(duration(ticks))
    }

    /// Memory held now.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let mut rss = 0;
        let mut pss = Some(0);
        for (pid, status) in self.statuses()? {
            rss += kibibytes(&status, "VmRSS:").unwrap_or(0);
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
            let shared = rollup
                .as_deref()
                .and_then(|rollup| kibibytes(rollup, "Pss:"));
            pss = pss.zip(shared).map(|(sum, one)| sum + one);
        }
        Ok(Memory {
            rss_mib: mebibytes(rss),
            pss_mib: pss.map(mebibytes),
        })
    }

    /// The most memory that the processes have held at once since they started, each for itself, in mebibytes. `None` if
    /// nothing is watched, or the kernel doesn't tell.
    pub(crate) fn peak_mib(&self) -> Result<Option<f64>> {
        let mut peak = None;
        for (_, status) in self.statuses()? {
            let own = kibibytes(&status, "VmHWM:");
            peak = own.map(|own| peak.unwrap_or(0) + own).or(peak);
        }
        Ok(peak.map(mebibytes))
    }

    /// What the kernel tells of each process. One that has ended meanwhile holds nothing, and is left out.
    fn statuses(&self) -> Result<Vec<(u32, String)>> {
        let processes = processes().context("reading /proc")?;
        let status = |pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            Some((pid, status))
        };
        Ok(self
            .tree(&processes)?
            .into_iter()
            .filter_map(status)
            .collect())
    }

    fn tree(&self, processes: &BTreeMap<u32, Stat>) -> Result<BTreeSet<u32>> {
        if let Some(gone) = self.roots.iter().find(|pid| !processes.contains_key(pid)) {
            bail!("process {gone}, which was being watched, has ended");
        }
        Ok(descendants(&self.roots, processes))
    }
}

/// Processor time of the load program itself, without a server that it has started.
pub(crate) fn own_cpu() -> Result<Duration> {
    let line = fs::read_to_string("/proc/self/stat").context("reading /proc/self/stat")?;
    let stat = parse_stat(&line).context("/proc/self/stat is not as expected")?;
    Ok(duration(stat.own))
}

fn duration(ticks: u64) -> Duration {
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

fn descendants(roots: &[u32], processes: &BTreeMap<u32, Stat>) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (pid, stat) in processes {
        children.entry(stat.parent).or_default().push(*pid);
    }
    let mut found = BTreeSet::new();
    let mut open = roots.to_vec();
    while let Some(pid) = open.pop() {
        if found.insert(pid) {
            open.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

fn processes() -> io::Result<BTreeMap<u32, Stat>> {
    let mut processes = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end between being listed and being read.
        let Ok(line) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        if let Some(stat) = parse_stat(&line) {
            processes.insert(pid, stat);
        }
    }
    Ok(processes)
}

/// Reads a line of `/proc/PID/stat` (proc_pid_stat(5)). The second field, the program's name, is in parentheses
/// and may itself hold spaces and parentheses, so fields are counted from the last of them.
fn parse_stat(line: &str) -> Option<Stat> {
    let (_, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // `fields[0]` is field 3 of the manual: 4 is the parent, 14 to 17 are the times.
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own: number(11)? + number(12)?,
        ended: number(13)? + number(14)?,
    })
}

/// The value of a line like `VmRSS:     1234 kB`.
fn kibibytes(text: &str, label: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn mebibytes(kibibytes: u64) -> f64 {
    kibibytes as f64 / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4711 (tokio (1) rt) S 42 4711 4711 0 -1 4194560 1 0 0 0 730 220 40 10 20 0 9 0 123 \
                        402653184 29068 18446744073709551615 1 1 0 0 0 0 0 4096 17960 0 0 0 17 1 0 0 0 0 0";

    #[test]
    fn a_stat_line_gives_the_parent_and_all_processor_time() {
        let expected = Stat {
            parent: 42,
            own: 730 + 220,
            ended: 40 + 10,
        };
        assert_eq!(parse_stat(STAT), Some(expected));
    }

    #[test]
    fn a_stat_line_that_is_cut_short_is_not_read() {
        assert_eq!(parse_stat("4711 (parley) S 42 4711"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn sizes_are_found_by_their_label() {
        let status = "Name:\tparley\nVmHWM:\t  20000 kB\nVmRSS:\t   14336 kB\nThreads:\t3\n";
        assert_eq!(kibibytes(status, "VmRSS:"), Some(14336));
        assert_eq!(kibibytes(status, "Pss:"), None);
        assert!((mebibytes(14336) - 14.0).abs() < 1e-9);
    }

    #[test]
    fn children_of_children_belong_to_the_tree_and_strangers_do_not() {
        let stat = |parent| Stat {
            parent,
            own: 0,
            ended: 0,
        };
        let processes = BTreeMap::from([
            (1, stat(0)),
            (10, stat(1)),
            (11, stat(10)),
            (12, stat(11)),
            (20, stat(1)),
        ]);
        assert_eq!(
            descendants(&[10, 11], &processes),
            BTreeSet::from([10, 11, 12])
        );
    }

    #[test]
    fn work_and_memory_of_a_running_process_are_seen() {
        let watch = Watch::new(&[std::process::id()]).unwrap();
        let (all, own) = (watch.cpu().unwrap(), own_cpu().unwrap());
        let mut sum = 0_u64;
        while watch.cpu().unwrap() < all + 2 * TICK || own_cpu().unwrap() < own + 2 * TICK {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        let memory = watch.memory().unwrap();
        // The kernel counts in steps, for each processor: a peak may be told as a little less than what is held.
        let peak = watch.peak_mib().unwrap().unwrap();
        assert!(peak > memory.rss_mib / 2.0, "{peak} {memory:?}");
        assert!(sum > 0);
        assert!(
            memory.rss_mib > 1.0 && memory.mib() <= memory.rss_mib,
            "{memory:?}"
        );
    }

    #[test]
    fn a_process_that_does_not_run_is_refused() {
        assert!(
            Watch::new(&[u32::MAX])
                .unwrap_err()
                .to_string()
                .contains("--pid")
        );
    }
}
