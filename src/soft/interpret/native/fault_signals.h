// Faults of the instructions that the host runs for the guest arrive as signals.
#pragma once

namespace limen::soft::interpret::native {

class CodeArea;

/// Installs handlers for SIGFPE, SIGILL, SIGSEGV and SIGBUS that turn a fault at an instruction of
/// `area` into the thunk's return value. Every other signal goes on to the handler that stood there
/// before. Called once.
void install_fault_handlers(const CodeArea& area);

/// Asked first, with the context of every fault that an instruction raised: true if it has changed
/// the context so that the thread goes on elsewhere. nullptr: nobody.
void set_fault_hook(bool (*hook)(void* context));

}  // namespace limen::soft::interpret::native
