// Signals that ask a long job to end at its next safe point, so that the same command can go on later.
#pragma once
#include <span>

namespace amalgam {

/// Has these signals ask this process to stop instead of ending it.
void catch_stop_signals(std::span<const int> signals);

/// Whether one of them came. Any thread.
bool stop_asked();
/// The signal that came first; 0: none.
int stop_signal();

/// Tells the batch script that this job stopped on request and is to be started again: makes the file that
/// REQUEUE_MARKER of the environment names, if it names one. For SIGUSR1 only, by one rank. Throws Error.
void leave_requeue_marker();

}  // namespace amalgam
