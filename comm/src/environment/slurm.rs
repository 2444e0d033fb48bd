//! Slurm's variables and their abbreviated lists.

use super::variables::{EnvironmentError, Variables};
use super::{Numbers, Place};

/// Step numbers from here on are a batch script, an interactive shell or the like: one process that is not a rank.
const SPECIAL_STEPS: usize = 0xffff_fff0;

/// First port for jobs, and the number of ports: below the ports of outgoing connections.
const PORTS: [usize; 2] = [20_000, 10_000];

/// Whether `srun` started this process among others.
pub fn is_step(variables: &Variables) -> bool {
    let step = variables.text("SLURM_STEP_ID").and_then(|step| step.parse::<usize>().ok());
    variables.has("SLURM_PROCID") && step.is_some_and(|step| step < SPECIAL_STEPS)
}

/// The rank of a task of a step.
pub fn place(variables: &Variables) -> Result<Option<Place>, EnvironmentError> {
    // The step's number, because a step may have fewer tasks than the job.
    let size = first(variables, ["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"]);
    if variables.number(size)? == 1 {
        return Ok(None);
    }
    let numbers = Numbers {
        rank: variables.number("SLURM_PROCID")?,
        size: variables.number(size)?,
        local_rank: variables.number("SLURM_LOCALID")?,
        local_size: local_size(variables)?,
    };
    let tasks = first(variables, ["SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"]);
    numbers.check(variables, ["SLURM_PROCID", size, "SLURM_LOCALID", tasks])?;
    let master = match variables.text("MASTER_ADDR") {
        Some(master) => master,
        None => {
            let variable = first(variables, ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"]);
            let value =
                variables.need(variable, "the nodes, of which the first has rank 0, or MASTER_ADDR")?;
            let host = first_host(&value);
            host.ok_or(EnvironmentError::Value { variable, value, wanted: "list of nodes" })?
        }
    };
    let port = match variables.port()? {
        Some(port) => port,
        // Below 30,000.
        None => (PORTS[0] + variables.number("SLURM_JOB_ID")? % PORTS[1]) as u16,
    };
    Ok(numbers.at(master, port))
}

/// The first of two variables that is set, the second if none is.
fn first(variables: &Variables, names: [&'static str; 2]) -> &'static str {
    if variables.has(names[0]) { names[0] } else { names[1] }
}

/// The number of tasks on this node.
fn local_size(variables: &Variables) -> Result<usize, EnvironmentError> {
    let variable = first(variables, ["SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"]);
    let value = variables.need(variable, "the number of tasks on each node")?;
    let node = variables.number("SLURM_NODEID")?;
    let wrong =
        EnvironmentError::Value { variable, value: value.clone(), wanted: "list of tasks on each node" };
    match tasks_of(&value, node) {
        Some(Some(tasks)) => Ok(tasks),
        Some(None) => Err(variables.contradict("SLURM_NODEID", Some(variable), "the list has no such node")),
        None => Err(wrong),
    }
}

/// The number of tasks of a node in a list such as `4(x2),3`: `None` if it is not such a list, `Some(None)` if it has no such node.
pub fn tasks_of(list: &str, node: usize) -> Option<Option<usize>> {
    let (mut found, mut before) = (None, 0usize);
    for entry in list.split(',') {
        let (tasks, times) = match entry.split_once("(x") {
            Some((tasks, times)) => (tasks, times.strip_suffix(')')?.parse().ok()?),
            None => (entry, 1),
        };
        let tasks = tasks.parse().ok()?;
        before = before.checked_add(times)?;
        if node < before && found.is_none() {
            found = Some(tasks);
        }
    }
    Some(found)
}

/// The first name of a list such as `node[01-04,7]` or `gpu-a,gpu-b`; `None` if it is not such a list.
pub fn first_host(list: &str) -> Option<String> {
    let (mut name, mut rest) = (String::new(), list);
    loop {
        let end = rest.find(['[', ',']).unwrap_or(rest.len());
        name.push_str(&rest[..end]);
        rest = &rest[end..];
        let Some(inside) = rest.strip_prefix('[') else { break };
        let (numbers, after) = inside.split_once(']')?;
        let first = numbers.split([',', '-']).next()?;
        if first.is_empty() || !first.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        name.push_str(first);
        rest = after;
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    (!name.is_empty() && name.bytes().all(fits)).then_some(name)
}
