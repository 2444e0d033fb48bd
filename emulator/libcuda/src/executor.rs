//! The thread that runs queued work, one piece at a time; a kernel's blocks use all cores.

use std::{thread, time::Duration};

use crate::{
    code::{Code, Failure, Outcome},
    context, log,
    schedule::Pick,
    state::{Driver, driver},
    work::Work,
};

/// Starts it. The driver is there.
pub fn start() -> Outcome {
    let driver = driver()?;
    let thread = thread::Builder::new().name("cuda-emulator".into());
    match thread.spawn(move || run(driver)) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::new(Code::OPERATING_SYSTEM, format!("cannot start a thread: {error}"))),
    }
}

fn run(driver: &'static Driver) {
    let mut state = driver.lock();
    loop {
        let (id, context, work) = match state.schedule.pick(driver.settings.late) {
            Pick::Run(id, context, work) => (id, context, work),
            Pick::Wait(time) => {
                state = driver.pause(state, time);
                continue;
            }
            Pick::Idle => {
                state = driver.pause(state, Duration::from_secs(1));
                continue;
            }
        };
        // After a fault nothing more of a context runs: its queue ends as it stands.
        let lives = state.contexts.get(context).is_ok_and(|context| context.check().is_ok());
        if lives {
            drop(state);
            let outcome = work.run();
            state = driver.lock();
            let outcome = match *work {
                Work::Free(address) => outcome.and_then(|()| state.release(address)),
                _ => outcome,
            };
            if let Err(failure) = outcome {
                log::say(&format!("{}: {}", failure.code.name(), failure.message));
                context::fail(&mut state, context, failure);
            }
        }
        state.schedule.complete(id);
        driver.notify();
    }
}
