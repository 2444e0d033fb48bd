//! A rank's [`Place`] from the environment variables of its launcher.
//!
//! | launcher | detected by | master and port |
//! | --- | --- | --- |
//! | `ssmv-raw launch`, torchrun | RANK and WORLD_SIZE | MASTER_ADDR; SSMV_PORT, else MASTER_PORT + 1, as torchrun itself listens at MASTER_PORT |
//! | Open MPI | OMPI_COMM_WORLD_RANK | MASTER_ADDR, optional on one machine; SSMV_PORT, else MASTER_PORT + 1, else 29600 |
//! | MPICH | PMI_RANK and MPI_LOCALRANKID | as Open MPI |
//! | Slurm, in a step of `srun` | SLURM_PROCID and SLURM_STEP_ID | MASTER_ADDR, else the step's first node; SSMV_PORT, else MASTER_PORT + 1, else 20000 + SLURM_JOB_ID modulo 10000 |
//!
//! The first match counts. MPI precedes Slurm because `mpirun` starts its helpers with `srun`, and the ranks inherit
//! the helpers' Slurm variables.

mod slurm;
#[cfg(test)]
mod tests;
mod variables;

use crate::rendezvous::Place;
pub use variables::EnvironmentError;
use variables::Variables;

/// The default port of the master.
const PORT: u16 = 29600;

/// The rank of this process; `None` if it is the only one.
///
/// # Errors
/// Variables are missing, are not numbers or contradict each other.
pub fn place() -> Result<Option<Place>, EnvironmentError> {
    place_in(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
}

/// As [`place`]; `get` returns the value of a variable.
///
/// # Errors
/// As [`place`].
pub fn place_in(get: impl Fn(&str) -> Option<String>) -> Result<Option<Place>, EnvironmentError> {
    let variables = Variables::new(&get);
    let ours = variables.has("SSMV_LAUNCHER_PID");
    let torch = ours || variables.has("RANK") && variables.has("WORLD_SIZE");
    let place = if torch {
        torchrun(&variables, ours)?
    } else if variables.has("OMPI_COMM_WORLD_RANK") {
        mpi(&variables, &OPEN_MPI)?
    } else if variables.has("PMI_RANK") && variables.has("MPI_LOCALRANKID") {
        mpi(&variables, &MPICH)?
    } else if slurm::is_step(&variables) {
        slurm::place(&variables)?
    } else {
        None
    };
    if !torch {
        check_lone(&variables, place.as_ref())?;
    }
    Ok(place)
}

/// Reads and checks a rank's numbers from the variables of these names.
fn numbers(variables: &Variables, names: [&'static str; 4]) -> Result<Numbers, EnvironmentError> {
    let [rank, size, local_rank, local_size] = names;
    let numbers = Numbers {
        rank: variables.number(rank)?,
        size: variables.number(size)?,
        local_rank: variables.number(local_rank)?,
        local_size: variables.number(local_size)?,
    };
    numbers.check(variables, names)?;
    Ok(numbers)
}

#[derive(Debug, Clone, Copy)]
struct Numbers {
    rank: usize,
    size: usize,
    local_rank: usize,
    local_size: usize,
}

impl Numbers {
    fn check(&self, variables: &Variables, names: [&'static str; 4]) -> Result<(), EnvironmentError> {
        let [rank, size, local_rank, local_size] = names;
        match *self {
            Self { size: 0, .. } => Err(variables.contradict(size, None, "there must be at least one rank")),
            Self { local_size: 0, .. } => {
                Err(variables.contradict(local_size, None, "there must be at least one rank"))
            }
            Self { rank: r, size: n, .. } if r >= n => {
                Err(variables.contradict(rank, Some(size), "ranks count from 0"))
            }
            Self { local_rank: r, local_size: n, .. } if r >= n => {
                Err(variables.contradict(local_rank, Some(local_size), "ranks count from 0"))
            }
            Self { local_size: l, size: n, .. } if l > n => Err(variables.contradict(
                local_size,
                Some(size),
                "a machine cannot have more ranks than the job",
            )),
            _ => Ok(()),
        }
    }

    fn at(self, master: String, port: u16) -> Option<Place> {
        let Self { rank, size, local_rank, local_size } = self;
        (size > 1).then_some(Place { rank, size, local_rank, local_size, master, port })
    }
}

fn torchrun(variables: &Variables, ours: bool) -> Result<Option<Place>, EnvironmentError> {
    if !ours && variables.number("WORLD_SIZE")? == 1 && variables.number("RANK")? == 0 {
        return Ok(None);
    }
    let numbers = numbers(variables, ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"])?;
    let master = variables.need("MASTER_ADDR", "where rank 0 listens")?;
    let Some(port) = variables.port()? else {
        return Err(variables.missing("MASTER_PORT", "or SSMV_PORT, the port where rank 0 listens"));
    };
    let Numbers { rank, size, local_rank, local_size } = numbers;
    Ok(Some(Place { rank, size, local_rank, local_size, master, port }))
}

const OPEN_MPI: [&str; 4] = [
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
];

const MPICH: [&str; 4] = ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"];

fn mpi(variables: &Variables, names: &[&'static str; 4]) -> Result<Option<Place>, EnvironmentError> {
    let numbers = numbers(variables, *names)?;
    if numbers.size == 1 {
        return Ok(None);
    }
    let master = match variables.text("MASTER_ADDR") {
        Some(master) => master,
        None if numbers.local_size == numbers.size => "127.0.0.1".into(),
        None => {
            let why =
                "the address of rank 0's machine, as the ranks are on several; mpirun passes it on with -x";
            return Err(variables.missing("MASTER_ADDR", why));
        }
    };
    Ok(numbers.at(master, variables.port()?.unwrap_or(PORT)))
}

/// RANK or WORLD_SIZE alone must not contradict the variables of another launcher, and is not enough without them.
fn check_lone(variables: &Variables, place: Option<&Place>) -> Result<(), EnvironmentError> {
    for (lone, other, is_rank) in [("RANK", "WORLD_SIZE", true), ("WORLD_SIZE", "RANK", false)] {
        if !variables.has(lone) {
            continue;
        }
        let value = variables.number(lone)?;
        let expected = place.map(|place| if is_rank { place.rank } else { place.size });
        match expected {
            Some(expected) if value != expected => {
                let why = format!("the launcher of this process says {expected}");
                return Err(variables.contradict(lone, None, &why));
            }
            None if is_rank || value != 1 => {
                return Err(variables.missing(other, &format!("as {lone} is {value}")));
            }
            _ => {}
        }
    }
    Ok(())
}
