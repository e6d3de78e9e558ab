//! Keeps the processors awake while times are measured.
//!
//! How long a processor that sleeps takes to wake, above all that of a virtual machine, is no
//! matter of what is measured; it is a multiple of what a message takes, and changes from one
//! moment to the next. A process for each, of the lowest priority, gives way to everything else and
//! keeps it from sleeping.

use std::{
    env, hint, io,
    num::NonZeroUsize,
    os::unix::process::parent_id,
    process::{Child, Command, Stdio},
    thread,
};

/// The argument that makes the program one of these processes; the id of the process that starts it
/// follows.
pub const ARGUMENT: &str = "--stay-awake";

/// The processes; they end with this.
pub struct Awake(Vec<Child>);

impl Drop for Awake {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Keeps all processors awake.
pub fn keep_awake() -> io::Result<Awake> {
    let program = env::current_exe()?;
    let mut awake = Awake(Vec::new());
    for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
        let mut command = Command::new("nice");
        command
            .args(["-n", "19"])
            .arg(&program)
            .args([ARGUMENT, &std::process::id().to_string()])
            .stdin(Stdio::null());
        awake.0.push(command.spawn()?);
    }
    Ok(awake)
}

/// The work of the processes, until the process that started them is gone.
pub fn stay_awake(parent: Option<u32>) {
    // `nice` becomes the program, so that it is the parent itself.
    while Some(parent_id()) == parent {
        for _ in 0..1_000_000 {
            hint::spin_loop();
        }
    }
}
