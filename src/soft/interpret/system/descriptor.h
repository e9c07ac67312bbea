// Segment, system and gate descriptors as they stand in the GDT, an LDT or the IDT
// (SDM Vol. 3A 3.4.5, 3.5, 5.8.3, 6.11, 6.14.1).
#pragma once

#include <cstdint>

#include "soft/cpu.h"

namespace limen::soft::interpret {

/// System-segment and gate types (SDM Vol. 3A table 3-2).
namespace system_type {
inline constexpr unsigned kTss16Available = 1;
inline constexpr unsigned kLdt = 2;
inline constexpr unsigned kTss16Busy = 3;
inline constexpr unsigned kCallGate16 = 4;
inline constexpr unsigned kTaskGate = 5;
inline constexpr unsigned kInterruptGate16 = 6;
inline constexpr unsigned kTrapGate16 = 7;
inline constexpr unsigned kTss32Available = 9;
inline constexpr unsigned kTss32Busy = 11;
inline constexpr unsigned kCallGate32 = 12;
inline constexpr unsigned kInterruptGate32 = 14;
inline constexpr unsigned kTrapGate32 = 15;
}  // namespace system_type

/// An 8-byte descriptor, or the 16-byte form that IA-32e mode has for system descriptors and gates.
struct Descriptor {
  uint64_t low = 0;
  uint64_t high = 0;     ///< Second half; 0 for an 8-byte descriptor.
  uint64_t address = 0;  ///< Linear address of `low`.

  [[nodiscard]] uint16_t attributes() const { return static_cast<uint16_t>((low >> 40) & 0xF0FF); }
  [[nodiscard]] unsigned type() const { return attributes() & 0xF; }
  [[nodiscard]] bool is_system() const { return (attributes() & x86::Segment::kNotSystem) == 0; }
  [[nodiscard]] unsigned dpl() const { return (attributes() >> 5) & 3; }
  [[nodiscard]] bool present() const { return attributes() & x86::Segment::kPresent; }
  [[nodiscard]] bool is_code() const { return !is_system() && (type() & x86::Segment::kCode); }
  [[nodiscard]] bool is_data() const { return !is_system() && !(type() & x86::Segment::kCode); }
  [[nodiscard]] bool is_conforming() const { return is_code() && (type() & 4); }
  [[nodiscard]] bool is_readable() const { return is_data() || (type() & 2); }
  [[nodiscard]] bool is_writable_data() const { return is_data() && (type() & 2); }
  [[nodiscard]] bool is_long() const { return attributes() & x86::Segment::kLong; }
  [[nodiscard]] bool default_big() const { return attributes() & x86::Segment::kDefaultBig; }

  [[nodiscard]] uint32_t limit() const {
    const auto raw = static_cast<uint32_t>((low & 0xFFFF) | ((low >> 32) & 0xF0000));
    return (attributes() & x86::Segment::kGranularity) ? (raw << 12) | 0xFFF : raw;
  }
  [[nodiscard]] uint64_t base() const {
    return ((low >> 16) & 0xFFFFFF) | ((low >> 32) & 0xFF000000) | (high << 32);
  }

  // Gates.
  [[nodiscard]] uint16_t gate_selector() const { return static_cast<uint16_t>(low >> 16); }
  /// 16-bit gates leave bits 31:16 unused: see `offset16`.
  [[nodiscard]] uint64_t gate_offset() const {
    return (low & 0xFFFF) | ((low >> 32) & 0xFFFF0000) | (high << 32);
  }
  [[nodiscard]] uint64_t gate_offset16() const { return low & 0xFFFF; }
  [[nodiscard]] unsigned parameter_count() const { return (low >> 32) & 0x1F; }
  [[nodiscard]] unsigned interrupt_stack() const { return (low >> 32) & 7; }
};

/// Throws `vector` with the selector's error code (SDM Vol. 3A 6.13); `external` is its EXT bit.
[[noreturn]] void raise_selector(x86::Vector vector, uint16_t selector, uint32_t external = 0);

[[nodiscard]] constexpr bool is_null(uint16_t selector) { return (selector & 0xFFFC) == 0; }

/// A linear address of a system structure: 32 bits wide outside IA-32e mode.
[[nodiscard]] inline uint64_t system_linear(const Cpu& cpu, uint64_t address) {
  return cpu.long_mode ? address : address & 0xFFFFFFFF;
}

/// The descriptor that a selector names; throws `fault` with the selector when it is beyond the
/// table's limit or there is no LDT. Does not read the second half of a system descriptor.
Descriptor fetch_descriptor(Cpu& cpu, uint16_t selector,
                            x86::Vector fault = x86::Vector::kGeneralProtection,
                            uint32_t external = 0);

/// In IA-32e mode, reads the second half of a system descriptor and checks that its type field is 0
/// (SDM Vol. 3A 3.5, 5.8.3.1).
void fetch_upper_half(Cpu& cpu, uint16_t selector, Descriptor& descriptor,
                      x86::Vector fault = x86::Vector::kGeneralProtection, uint32_t external = 0);

/// Sets the accessed bit in memory if it is clear (SDM Vol. 3A 3.4.5.1).
void mark_accessed(Cpu& cpu, Descriptor& descriptor);

/// Replaces the low bits of the type byte: bits `clear` go, bits `set` come.
void change_type(Cpu& cpu, Descriptor& descriptor, uint8_t clear, uint8_t set);

/// The segment register that a load of this descriptor gives.
[[nodiscard]] x86::Segment make_segment(uint16_t selector, const Descriptor& descriptor);

}  // namespace limen::soft::interpret
