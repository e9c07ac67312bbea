// A small machine for tests of the system instructions: 4 MiB of RAM, one processor, no devices but
// a port that ends the run.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "memory/guest_memory.h"
#include "memory/io_space.h"
#include "soft/cpu.h"
#include "soft/interpret/operation.h"
#include "x86/exception.h"

namespace limen::soft::testing {

/// Gives out the interrupts and events that a test queues.
class FakeInterrupts : public vcpu::LocalInterruptController {
 public:
  bool has_interrupt() override { return !vectors.empty(); }
  std::optional<uint8_t> acknowledge() override;
  EventRequest take_event() override;
  uint8_t task_priority() override { return priority; }
  void set_task_priority(uint8_t priority_class) override { priority = priority_class; }
  bool read_msr(uint32_t index, uint64_t& value) override;
  bool write_msr(uint32_t, uint64_t) override { return false; }
  uint64_t next_timer_tsc() override { return UINT64_MAX; }
  void timer_due(uint64_t) override {}

  std::vector<uint8_t> vectors;
  std::vector<EventRequest> events;
  uint8_t priority = 0;
  uint64_t apic_base = 0xFEE00900;
};

/// What happened on the I/O ports. Reads give 0x5A in every byte.
class RecordingPorts : public memory::IoHandler {
 public:
  struct Write {
    uint64_t port;
    unsigned size;
    uint64_t value;
  };
  uint64_t io_read(uint64_t, unsigned) override { return 0x5A5A5A5A5A5A5A5A; }
  void io_write(uint64_t offset, unsigned size, uint64_t value) override {
    writes.push_back({offset, size, value});
    if (on_write) on_write(offset);
  }
  std::vector<Write> writes;
  std::function<void(uint64_t port)> on_write;
};

/// What runs the programs.
enum class Tier : uint8_t { kInterpreter, kTranslator };

/// For test suites whose guests run whole programs: instantiate with every_tier().
class OnEachTier : public ::testing::TestWithParam<Tier> {};
inline auto every_tier() { return ::testing::Values(Tier::kInterpreter, Tier::kTranslator); }
inline std::string tier_name(const ::testing::TestParamInfo<Tier>& info) {
  return info.param == Tier::kInterpreter ? "Interpreter" : "Translator";
}

class Guest {
 public:
  static constexpr uint64_t kEntry = 0x1000;    ///< Where programs are loaded and start.
  static constexpr uint64_t kResults = 0x8000;  ///< Eight bytes each.
  static constexpr uint64_t kGdt = 0x3000;
  static constexpr uint64_t kIdt = 0xA000;
  static constexpr uint16_t kExitPort = 0xF4;

  /// `vendor` is CPUID's; every feature of the engine's own is shown.
  explicit Guest(std::string_view vendor = "GenuineIntel");
  /// What run() runs programs by.
  explicit Guest(Tier tier) : Guest() { tier_ = tier; }

  /// Loads <name>.asm, assembled, at kEntry, and sets real mode up: CS = DS =
  /// ES = 0, SS:SP = 0:F00H.
  void load_program(std::string_view name);

  /// Runs until the program writes to kExitPort. False: a triple fault.
  [[nodiscard]] bool run();

  /// Runs the one instruction at CS:RIP; an exception that it raised is returned, not delivered.
  std::optional<x86::Exception> step();
  /// Writes `bytes` at CS:RIP (kEntry if nothing was placed yet) and runs that instruction.
  std::optional<x86::Exception> execute(std::initializer_list<uint8_t> bytes);

  /// Enters a mode with flat segments at privilege `cpl`, GDTR at kGdt, IDTR at kIdt; no paging in
  /// protected mode, 2 MiB identity-mapped pages in long mode.
  void enter_protected_mode(unsigned cpl = 0);
  void enter_long_mode(unsigned cpl = 0);
  void set_cpl(unsigned cpl);

  void set_descriptor(uint16_t selector, uint64_t low, uint64_t high = 0);
  [[nodiscard]] uint64_t descriptor(uint16_t selector) { return load(kGdt + (selector & 0xFFF8u)); }

  [[nodiscard]] uint64_t load(uint64_t address) const;
  void store(uint64_t address, uint64_t value);
  [[nodiscard]] uint64_t result(unsigned index) const { return load(kResults + 8 * index); }

  std::unique_ptr<memory::GuestMemory> ram;
  memory::IoSpace ports{"ports"};
  memory::IoSpace mmio{"mmio"};
  RecordingPorts port_log;
  x86::CpuidTable cpuid;
  FakeInterrupts interrupts;
  std::unique_ptr<Cpu> cpu;
  bool triple_fault = false;
  /// Instructions that the last run() had the interpreter run for translated code.
  uint64_t interpreted = 0;
  uint64_t quick_lookups = 0;  ///< By translated code, without leaving it.

 private:
  Tier tier_ = Tier::kInterpreter;

  void use_flat_segments(unsigned cpl, bool is_long);
};

/// A descriptor with these attribute bits (as in x86::Segment), base and limit in pages or bytes.
[[nodiscard]] uint64_t make_descriptor(uint16_t attributes, uint32_t base, uint32_t limit);

/// An interrupt, trap, call or task gate (first eight bytes).
[[nodiscard]] uint64_t make_gate(uint16_t selector, uint32_t offset, uint8_t type_byte,
                                 uint8_t count = 0);

}  // namespace limen::soft::testing
