// The registers of an x86-64 processor as gdb sees them: one table for the target description, the
// `g` packet and single registers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "x86/cpu_state.h"

namespace limen::gdb {

/// What a debugger may read and change of a stopped processor.
struct RegisterFile {
  x86::CpuState cpu;
  uint64_t cr8 = 0;  ///< The local APIC's: its task priority class.
};

[[nodiscard]] size_t register_count();
/// Bytes, in the `g` packet, too.
[[nodiscard]] size_t register_size(size_t number);
/// Its bytes as they stand in a packet.
[[nodiscard]] std::string read_register(const RegisterFile& file, size_t number);
/// `bytes` are register_size(number) many.
void write_register(RegisterFile& file, size_t number, std::string_view bytes);

/// target.xml (GDB manual, appendix G "Target Descriptions").
[[nodiscard]] const std::string& target_description();

}  // namespace limen::gdb
