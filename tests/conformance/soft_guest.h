// A guest of the software engine that runs user code and ends at the first exception: flat
// segments, the tables of guest_tables.h, and handlers that write to a port.
#pragma once

#include <memory>

#include "base/result.h"
#include "conformance/trial.h"
#include "memory/guest_memory.h"
#include "memory/io_space.h"
#include "soft/cpu.h"
#include "soft/interpret/runner.h"
#include "vcpu/no_interrupts.h"
#include "x86/cpuid.h"

namespace limen::conformance {

/// The ports that handlers write to: stops the run.
class ExitPorts : public memory::IoHandler {
 public:
  uint64_t io_read(uint64_t, unsigned) override { return 0; }
  void io_write(uint64_t offset, unsigned, uint64_t) override {
    vector = static_cast<uint8_t>(offset);
    hit = true;
    runner->kick();
  }
  soft::interpret::Runner* runner = nullptr;
  uint8_t vector = 0;
  bool hit = false;
};

struct SoftGuest {
  /// `code_size`: bytes of translated code that are kept; 0: everything is interpreted.
  SoftGuest(std::unique_ptr<memory::GuestMemory> memory, size_t code_size);
  SoftGuest(const SoftGuest&) = delete;
  SoftGuest& operator=(const SoftGuest&) = delete;

  /// The memory that it needs, with the tables written.
  static Result<std::unique_ptr<memory::GuestMemory>> create_memory();

  std::unique_ptr<memory::GuestMemory> ram;
  memory::IoSpace ports{"ports"};
  memory::IoSpace mmio{"mmio"};
  x86::CpuidTable cpuid;
  vcpu::NoInterrupts interrupts;
  soft::Cpu cpu;
  soft::interpret::Runner runner;
  ExitPorts exit_ports;

  void load_registers(const Registers& before);
  /// What the exception left, but for memory. `ran` is false if none was delivered.
  void store_outcome(Outcome& outcome) const;
  std::byte* host(uint64_t physical) const { return ram->span({physical}, 1).data(); }
};

/// Whether an exception pushes one (SDM Vol. 3A table 6-1).
[[nodiscard]] constexpr bool has_error_code(uint8_t vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

}  // namespace limen::conformance
