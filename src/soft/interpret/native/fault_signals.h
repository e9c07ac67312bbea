// Faults of the instructions that the host runs for the guest arrive as signals.
#pragma once

namespace limen::soft::interpret::native {

class CodeArea;

/// Installs handlers for SIGFPE, SIGILL, SIGSEGV and SIGBUS that turn a fault at an instruction of
/// `area` into the thunk's return value. Every other signal goes on to the handler that stood there
/// before. Called once.
void install_fault_handlers(const CodeArea& area);

}  // namespace limen::soft::interpret::native
