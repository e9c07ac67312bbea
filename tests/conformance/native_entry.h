// The native child's signal entry: the few lines of assembly around handle_trap().
#pragma once

#include <cstdint>

namespace limen::conformance {

/// What a signal frame does not hold (there is one child per process, so there is one of these).
struct TrapContext {
  uint64_t host_fs_base = 0;
  uint64_t fs_base = 0;
  uint64_t gs_base = 0;
  uint64_t flags = 0;  ///< For the way out: ID and NT, which rt_sigreturn takes from the caller.
  uint16_t ds = 0, es = 0, fs = 0, gs = 0;
};

}  // namespace limen::conformance

extern "C" {
/// Read and written by limen_conformance_entry.
extern limen::conformance::TrapContext limen_conformance_context;
/// The signal handler to install (SA_SIGINFO | SA_ONSTACK).
void limen_conformance_entry(int signal, void* information, void* user_context);
/// Called by it with the host's FS base, clean flags and flat segments; stores what the trial did
/// and fills in the next one.
void limen_conformance_handle(void* user_context);
}
